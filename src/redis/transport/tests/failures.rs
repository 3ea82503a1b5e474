use std::error::Error;

use ::redis::{Value, parse_redis_value};

use crate::error::{StoreError, StoreErrorKind};
use crate::redis::transport::{Failure, FailureKind};

fn failure(line: &str) -> Failure {
    let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
    Failure::check(Ok(value)).expect_err(line)
}

#[test]
fn every_server_error_has_its_kind() {
    use FailureKind::{CrossSlot, Moved, NoScript, NothingRan, Protocol, ReadOnly, Refused};
    let wrapped = "ERR Error running script (call to f_6b1b): @user_script:1: @user_script: 1: -";
    let lines = [
        ("NOSCRIPT No matching script. Please use EVAL.".to_owned(), NoScript),
        ("MOVED 12182 10.1.2.3:7001".to_owned(), Moved),
        ("ASK 12182 10.1.2.3:7001".to_owned(), Moved),
        ("TRYAGAIN Multiple keys request during rehashing of slot".to_owned(), Moved),
        ("CLUSTERDOWN Hash slot not served".to_owned(), NothingRan),
        ("LOADING Redis is loading the dataset in memory".to_owned(), NothingRan),
        ("MASTERDOWN Transport with MASTER is down".to_owned(), NothingRan),
        ("READONLY You can't write against a read only replica. script: 6b1b, on @user_script:1.".to_owned(), ReadOnly),
        (format!("{wrapped}READONLY You can't write against a read only replica."), ReadOnly),
        ("OOM command not allowed when used memory > 'maxmemory'. script: 6b1b".to_owned(), Refused),
        (format!("{wrapped}OOM command not allowed when used memory > 'maxmemory'."), Refused),
        (format!("{wrapped}MISCONF Redis is configured to save RDB snapshots"), Refused),
        (format!("{wrapped}NOPERM this user has no permissions"), Refused),
        ("ERR The user executing the script can't run this command or subcommand script: 6b1b".to_owned(), Refused),
        ("ERR ACL failure in script: User w has no permissions to run the 'time' command".to_owned(), Refused),
        ("BUSY Redis is busy running a script.".to_owned(), Refused),
        ("NOAUTH Authentication required.".to_owned(), Refused),
        ("NOPERM this user has no permissions to run the 'evalsha' command".to_owned(), Refused),
        ("CROSSSLOT Keys in request don't hash to the same slot".to_owned(), CrossSlot),
        ("ERR unknown command 'EVALSHA', with args beginning with: ".to_owned(), Refused),
        ("ERR max number of clients reached".to_owned(), Refused),
        ("ERR Error compiling script (new function): user_script:1".to_owned(), Protocol),
        ("SOMETHING new".to_owned(), Protocol),
        ("".to_owned(), Protocol),
    ];
    for (line, kind) in lines {
        let failure = failure(&line);
        assert_eq!(failure.kind(), kind, "{line}");
        assert_eq!(failure.calls_for_reconnect(), kind == ReadOnly, "{line}");
        assert_eq!(failure.may_have_run(), kind == Protocol, "{line}");
    }
}

#[test]
fn redirects_do_not_show_the_address() {
    let error = StoreError::from(failure("MOVED 12182 10.1.2.3:7001"));
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.source().is_none());
    assert!(!format!("{error} {error:?}").contains("10.1.2.3"));
    let failure = failure("ASK 12182 10.1.2.3:7001");
    assert!(!format!("{failure} {failure:?}").contains("10.1.2.3"));
}

#[test]
fn every_failure_has_its_store_error_kind() {
    let of = |line: &str| StoreError::from(failure(line));
    let noperm = of("NOPERM this user has no permissions to run the 'evalsha' command");
    assert_eq!(noperm.kind(), StoreErrorKind::Unavailable);
    assert!(noperm.to_string().contains("+evalsha"));
    assert!(noperm.source().is_some());
    assert_eq!(of("SOMETHING new").kind(), StoreErrorKind::Protocol);
    assert_eq!(StoreError::from(Failure::timeout()).kind(), StoreErrorKind::Timeout);
    assert!(Failure::check(Ok(Value::Int(1))).is_ok());
}
