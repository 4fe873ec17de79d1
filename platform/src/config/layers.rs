//! The layers of a configuration and their order: compiled-in defaults, a file, the environment, the
//! names that processes share.
//!
//! The defaults name every key there is and the type of its value. So a key that they do not have is
//! a typing error wherever it stands, and a text stays a text even when it looks like a number.

use super::ConfigError;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file that a value or a configuration is read from, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Ends the name of a variable that names a file with the value.
const FILE_SUFFIX: &str = "_FILE";

/// Environment variables by name.
pub type Variables = BTreeMap<String, String>;

/// The environment of this process. A variable that is no text counts as if it was not set, unless
/// its name is one of ours.
///
/// # Errors
/// [`ConfigError::Variable`] for one of ours that is no text.
pub fn environment(prefix: &str, aliases: &[(&str, &str)]) -> Result<Variables, ConfigError> {
    let mut variables = Variables::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                variables.insert(name, value);
            }
            Err(_) if ours(&name, prefix) || aliases.iter().any(|(alias, _)| name.starts_with(alias)) => {
                return Err(ConfigError::Variable { name, detail: "is not valid UTF-8".to_owned() });
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}

fn ours(name: &str, prefix: &str) -> bool {
    strip_prefix(name, prefix).is_some()
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// What a configuration is built from.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// The compiled-in defaults, which name every key.
    pub defaults: &'a str,
    /// A file that is laid over them.
    pub file: Option<&'a Path>,
    /// Variables with this prefix set `SECTION__FIELD`; ends in two underscores.
    pub prefix: &'a str,
    /// Variables that several processes share, and the dotted name that each sets.
    pub aliases: &'a [(&'a str, &'a str)],
    /// The environment.
    pub variables: &'a Variables,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Variable(String),
    /// The file that a variable names.
    FileOf(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Variable(name) => write!(out, "${name}"),
            Self::FileOf(name) => write!(out, "the file that ${name} names"),
        }
    }
}

/// Where each value came from, by dotted name.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// In words.
    #[must_use]
    pub fn of(&self, name: &str) -> String {
        // A section without fixed keys has its origin by key or as a whole.
        let mut name = name;
        loop {
            if let Some(origin) = self.0.get(name) {
                return origin.to_string();
            }
            match name.rsplit_once('.') {
                Some((section, _)) => name = section,
                None => return "default".to_owned(),
            }
        }
    }
}

/// Lays the layers over each other.
///
/// # Errors
/// [`ConfigError`] naming the key or the variable, and never a value.
pub(super) fn extract<T: DeserializeOwned>(layers: &Layers<'_>) -> Result<(T, Origins), ConfigError> {
    let defaults = parse(layers.defaults, "the compiled-in defaults")?;
    let mut merged = defaults.clone();
    let mut origins = Origins::default();
    if let Some(path) = layers.file {
        let text = read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let values = parse(&text, &path.display().to_string())?;
        lay_file(&mut merged, values, &defaults, "", path, &mut origins)?;
    }
    for (name, key, origin, text) in overrides(layers, &defaults)? {
        let value = typed(&name, &text, find(&defaults, &key))?;
        set(&mut merged, &key, value);
        origins.0.insert(key, origin);
    }
    let figment = Figment::from(Serialized::defaults(merged));
    let settings = figment.extract().map_err(|error| value_error(&error, &origins))?;
    Ok((settings, origins))
}

/// A message of figment or serde without the value it complains about.
fn value_error(error: &figment::Error, origins: &Origins) -> ConfigError {
    use figment::error::Kind;
    let key = error.path.join(".");
    let detail = match &error.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) | Kind::InvalidLength(_, expected) => {
            format!("must be {expected}")
        }
        Kind::UnknownVariant(_, words) => format!("must be one of {}", words.join(", ")),
        Kind::UnknownField(name, _) => format!("has no field {name}"),
        Kind::MissingField(name) => format!("lacks {name}"),
        Kind::Message(text) => text.clone(),
        _ => "has a value that does not fit".to_owned(),
    };
    let origin = origins.of(&key);
    ConfigError::Value { key, origin, detail }
}

fn parse(text: &str, origin: &str) -> Result<Dict, ConfigError> {
    let figment = Toml::string(text).data().map_err(|error| {
        // What follows the first line repeats the file's own text, which may be a secret.
        let detail = error.to_string().lines().next().unwrap_or_default().to_owned();
        ConfigError::Syntax { origin: origin.to_owned(), detail }
    })?;
    Ok(figment.into_values().next().unwrap_or_default())
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_LEN_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_LEN_MAX {
        return Err(std::io::Error::other("the file is too large"));
    }
    Ok(text)
}

/// A section of which the defaults name no key takes any.
fn is_open(section: &Dict) -> bool {
    section.is_empty()
}

fn lay_file(
    over: &mut Dict,
    values: Dict,
    defaults: &Dict,
    section: &str,
    path: &Path,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    for (field, value) in values {
        let key = if section.is_empty() { field.clone() } else { format!("{section}.{field}") };
        match (defaults.get(&field), value) {
            (Some(Value::Dict(_, known)), Value::Dict(tag, values)) if !is_open(known) => {
                let below = over.entry(field).or_insert_with(|| Value::Dict(tag, Dict::new()));
                if let Value::Dict(_, below) = below {
                    lay_file(below, values, known, &key, path, origins)?;
                }
            }
            (Some(Value::Dict(..)), value) if !matches!(value, Value::Dict(..)) => {
                let detail = "is a section, not a value".to_owned();
                return Err(ConfigError::Value { key, origin: path.display().to_string(), detail });
            }
            (None, _) if !is_open(defaults) => {
                return Err(ConfigError::UnknownKey { key, origin: path.display().to_string() });
            }
            (_, value) => {
                over.insert(field, value);
                origins.0.insert(key, Origin::File(path.to_owned()));
            }
        }
    }
    Ok(())
}

/// What the environment sets, in the order of precedence: prefixed names, then shared ones.
fn overrides(layers: &Layers<'_>, defaults: &Dict) -> Result<Vec<(String, String, Origin, String)>, ConfigError> {
    let mut found = Vec::new();
    let near = layers.prefix.trim_end_matches('_');
    for (name, value) in layers.variables {
        if let Some(rest) = strip_prefix(name, layers.prefix) {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            let of_file = key.strip_suffix("_file").filter(|_| find(defaults, &key).is_none());
            found.push(match of_file {
                Some(key) if find(defaults, key).is_some() => from_file(name, key, value)?,
                _ => (name.clone(), key, Origin::Variable(name.clone()), value.clone()),
            });
        } else if strip_prefix(name, near).is_some_and(|rest| rest.starts_with('_') && rest.contains("__")) {
            return Err(ConfigError::UnknownVariable { name: name.clone() });
        }
    }
    for (name, key) in layers.aliases {
        let file_name = format!("{name}{FILE_SUFFIX}");
        match (layers.variables.get(*name), layers.variables.get(&file_name)) {
            (Some(_), Some(_)) => {
                let detail = format!("contradicts {file_name}: set one of them");
                return Err(ConfigError::Variable { name: (*name).to_owned(), detail });
            }
            (Some(value), None) => {
                found.push((
                    (*name).to_owned(),
                    (*key).to_owned(),
                    Origin::Variable((*name).to_owned()),
                    value.clone(),
                ));
            }
            (None, Some(path)) => found.push(from_file(&file_name, key, path)?),
            (None, None) => {}
        }
    }
    refuse_both(&found)?;
    Ok(found)
}

/// Refuses a prefixed variable beside the one that names a file for the same key.
fn refuse_both(found: &[(String, String, Origin, String)]) -> Result<(), ConfigError> {
    for (name, key, origin, _) in found {
        let other = found.iter().find(|(other, other_key, other_origin, _)| {
            other_key == key
                && matches!((origin, other_origin), (Origin::Variable(_), Origin::FileOf(_)))
                && other.to_ascii_uppercase() == format!("{}{FILE_SUFFIX}", name.to_ascii_uppercase())
        });
        if let Some((other, ..)) = other {
            let detail = format!("contradicts {other}: set one of them");
            return Err(ConfigError::Variable { name: name.clone(), detail });
        }
    }
    Ok(())
}

fn from_file(name: &str, key: &str, path: &str) -> Result<(String, String, Origin, String), ConfigError> {
    let text = read(Path::new(path)).map_err(|source| ConfigError::File { path: path.into(), source })?;
    // Editors and `echo` end a file with a line feed that is no part of a secret.
    let text = text.trim_end_matches(['\n', '\r']).to_owned();
    Ok((name.to_owned(), key.to_owned(), Origin::FileOf(name.to_owned()), text))
}

/// The value of a key in the defaults; a text for any key of an open section.
fn find<'a>(defaults: &'a Dict, key: &str) -> Option<Known<'a>> {
    match key.split_once('.') {
        None if is_open(defaults) => Some(Known::Open),
        None => defaults.get(key).map(Known::Default),
        Some((section, rest)) => match defaults.get(section) {
            Some(Value::Dict(_, below)) => find(below, rest),
            _ => None,
        },
    }
}

enum Known<'a> {
    Default(&'a Value),
    Open,
}

/// Reads a variable's text as the type that the default has.
fn typed(name: &str, text: &str, known: Option<Known<'_>>) -> Result<Value, ConfigError> {
    let bad = |detail: &str| ConfigError::Variable { name: name.to_owned(), detail: detail.to_owned() };
    match known {
        None => Err(ConfigError::UnknownVariable { name: name.to_owned() }),
        Some(Known::Open | Known::Default(Value::String(..) | Value::Char(..))) => Ok(Value::from(text)),
        Some(Known::Default(Value::Bool(..))) => {
            text.parse::<bool>().map(Value::from).map_err(|_| bad("must be true or false"))
        }
        Some(Known::Default(Value::Num(..))) => {
            text.parse::<i64>().map(Value::from).map_err(|_| bad("must be a whole number"))
        }
        Some(Known::Default(Value::Array(..))) => {
            match parse(&format!("value = {text}"), "").ok().and_then(|mut values| values.remove("value")) {
                Some(value @ Value::Array(..)) => Ok(value),
                _ => Err(bad("must be a list such as [1, 2]")),
            }
        }
        Some(Known::Default(_)) => Err(bad("names a section, not a value")),
    }
}

fn set(values: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let below = values.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, below) = below {
                set(below, rest, value);
            }
        }
    }
}
