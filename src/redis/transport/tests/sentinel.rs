use crate::error::ConfigError;
use crate::redis::transport::Transport;

#[test]
fn mistakes_are_found_at_once() {
    assert!(Transport::to_sentinel(["redis://a:26379", "redis://b:26379"], "mymaster").is_ok());
    assert!(Transport::to_sentinel(["redis://a:26379"], "redis://user:password@mymaster/2?protocol=resp3").is_ok());
    assert_eq!(Transport::to_sentinel([], "mymaster").unwrap_err(), ConfigError::NoRedisUrl);
    assert!(matches!(Transport::to_sentinel(["redis://a"], ""), Err(ConfigError::InvalidRedisUrl(_))));
    assert_eq!(
        Transport::to_sentinel(["redis://:x@a", "redis://:y@b"], "m").unwrap_err(),
        ConfigError::RedisUrlsDiffer
    );
}
