//! URLs: the limiter's build checks them, and no message shows them.

use std::time::Duration;

use ::redis::io::tcp::{TcpSettings, socket2};
use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::error::ConfigError;

const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];

/// The error texts of the redis crate, and the messages of this crate.
const PROBLEMS: [(&str, &str); 6] = [
    ("wildcard", "has the wildcard address, which a server can listen on but a client cannot connect to"),
    ("hostname", "has no host"),
    ("database number", "has a path after its host that is not a database number"),
    ("protocol version", "asks for a protocol other than resp2 and resp3"),
    ("fragment", "has a fragment"),
    ("path", "has no absolute path to a socket"),
];

pub(super) fn parse(url: &str) -> Result<ConnectionInfo, ConfigError> {
    let scheme = url.split_once(':').map_or("", |split| split.0);
    if !SCHEMES.contains(&scheme) {
        return Err(ConfigError::InvalidRedisUrl("has no Redis scheme"));
    }
    let info = url.into_connection_info().map_err(|error| {
        // The redis crate puts its findings into a text, which may repeat parts of the URL.
        let text = error.to_string();
        if text.contains("TLS") {
            return ConfigError::RedisTlsMissing;
        }
        let known = PROBLEMS.iter().find(|problem| text.contains(problem.0));
        ConfigError::InvalidRedisUrl(
            known.map_or("cannot be parsed (percent-encode special characters in the password, as %40 for @)", |p| p.1),
        )
    })?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(ConfigError::InvalidRedisUrl(
            "ends in #insecure, but tower-weir always verifies certificates; remove it, and set SSL_CERT_FILE to the \
             PEM file of the server's own authority",
        ));
    }
    Ok(info.set_tcp_settings(tcp_settings()))
}

/// Sends without delay, and detects a vanished peer within half a minute, even on an idle connection.
pub(super) fn tcp_settings() -> TcpSettings {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(15));
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::error::ConfigError;

    #[test]
    fn every_url_form_is_parsed() {
        let forms = [
            "redis://localhost",
            "redis://localhost:6380/3",
            "redis://:secret@localhost",
            "redis://user:se%40cret@[::1]:6380/3?protocol=resp3",
            "valkey://localhost",
            "unix:///run/redis.sock?db=2&user=u&pass=p",
            "redis+unix:///run/redis.sock",
        ];
        for form in forms {
            let info = parse(form).unwrap_or_else(|error| panic!("{form}: {error}"));
            assert!(info.tcp_settings().nodelay(), "{form}");
        }
    }

    #[test]
    fn errors_name_the_mistake_and_no_secret() {
        let mistakes = [
            ("", "scheme"),
            ("localhost:6379", "scheme"),
            ("http://u:hunter2@localhost", "scheme"),
            ("redis://u:hunter2@localhost/two", "database"),
            ("redis://u:hunter2@0.0.0.0", "connect to"),
            ("redis://u:hunter2@localhost?protocol=hunter2", "resp3"),
            ("redis://u:hunter2@", "host"),
            ("redis://u:hunt#er2@localhost", ""),
            ("redis://u:hunter2@local host", ""),
        ];
        for (url, hint) in mistakes {
            let error = parse(url).expect_err(url);
            let text = format!("{error} {error:?}");
            assert!(text.contains(hint), "{url}: {text}");
            assert!(text.contains("redis://"), "{url}: {text} does not show what to write");
            assert!(!text.contains("hunt"), "{url}: {text} shows the password");
        }
    }

    #[cfg(not(feature = "redis-rustls"))]
    #[test]
    fn tls_names_its_feature() {
        let error = parse("rediss://u:hunter2@localhost").expect_err("no TLS");
        assert_eq!(error, ConfigError::RedisTlsMissing);
        assert!(error.to_string().contains("redis-rustls"));
    }

    #[cfg(feature = "redis-rustls")]
    #[test]
    fn tls_urls_are_parsed() {
        parse("rediss://localhost").unwrap();
        assert!(matches!(parse("rediss://localhost#hunter2"), Err(ConfigError::InvalidRedisUrl(_))));
        let insecure = parse("rediss://localhost#insecure").unwrap_err().to_string();
        assert!(insecure.contains("SSL_CERT_FILE") && insecure.contains("#insecure"), "{insecure}");
    }
}
