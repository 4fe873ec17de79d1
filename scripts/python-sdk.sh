# Sourced, from the checkout's folder: the Python SDK in an environment of its own; `sdk_python` is its interpreter.
command -v python3 >/dev/null || { echo "sdk: python3 is missing (Debian: python3 python3-venv)" >&2; exit 1; }
sdk_venv=.run/venv
sdk_requirements=examples/python/requirements.txt
if ! cmp -s "$sdk_requirements" "$sdk_venv/installed.txt"; then
    echo "sdk: installing $(grep -v '^#' "$sdk_requirements" | paste -sd ' ') into $sdk_venv"
    rm -rf "$sdk_venv"
    python3 -m venv "$sdk_venv" || { echo "sdk: python3 cannot make environments (Debian: python3-venv)" >&2; exit 1; }
    "$sdk_venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$sdk_requirements"
    cp "$sdk_requirements" "$sdk_venv/installed.txt"
fi
sdk_python=$sdk_venv/bin/python
