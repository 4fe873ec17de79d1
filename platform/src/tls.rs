//! The TLS provider, chosen once a process.

/// Installs the provider that every TLS client of this process uses. Must run before the first
/// HTTP client is built, since building one without a provider panics. A second call is harmless.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already, which is all that is wanted.
    let _already = rustls::crypto::ring::default_provider().install_default();
}
