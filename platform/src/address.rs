//! Addresses of other processes, as they may be shown.

/// A URL without the name and password that may be in it, even if it is no URL.
#[must_use]
pub fn shown_url(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        assert_eq!(shown_url("http://a:b@c@host:1/d"), "***@host:1/d");
        assert_eq!(shown_url("http://host:1/d"), "http://host:1/d");
    }
}
