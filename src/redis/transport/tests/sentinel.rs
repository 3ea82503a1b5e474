use crate::error::ConfigError;
use crate::redis::transport::Link;

#[test]
fn mistakes_are_found_at_once() {
    assert!(Link::to_sentinel(["redis://a:26379", "redis://b:26379"], "mymaster").is_ok());
    assert!(Link::to_sentinel(["redis://a:26379"], "redis://user:password@mymaster/2?protocol=resp3").is_ok());
    assert_eq!(Link::to_sentinel([], "mymaster").unwrap_err(), ConfigError::NoRedisUrl);
    assert!(matches!(Link::to_sentinel(["redis://a"], ""), Err(ConfigError::InvalidRedisUrl(_))));
    assert_eq!(Link::to_sentinel(["redis://:x@a", "redis://:y@b"], "m").unwrap_err(), ConfigError::RedisUrlsDiffer);
}
