use std::borrow::Cow;

use crate::error::ConfigError;
use crate::key::extractor::{CODE, KeyExtractor};
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

macro_rules! joined_keys {
    ($count:literal: $($name:ident . $index:tt),+) => {
        #[doc = concat!($count, " joined keys: each combination of their values has its own budget.")]
        impl<$($name: KeyExtractor),+> KeyExtractor for ($($name,)+) {
            fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
                $(self.$index.key(req, out)?; out.end();)+
                Ok(())
            }

            /// Whether all parts are global.
            fn is_global(&self) -> bool {
                $(self.$index.is_global())&&+
            }

            fn check(&self) -> Result<(), ConfigError> {
                $(self.$index.check()?;)+
                Ok(())
            }

            fn text(&self) -> Cow<'static, str> {
                joined_text(&[$(self.$index.text()),+])
            }
        }
    };
}

/// What stands between the texts of joined keys.
pub(super) const PLUS: &str = " + ";

/// The text of joined keys. A text has no parentheses, so a part that is joined itself cannot be read back.
pub(super) fn joined_text(parts: &[Cow<'static, str>]) -> Cow<'static, str> {
    match parts {
        [part] => part.clone(),
        parts => {
            let part = |text: &'_ Cow<'static, str>| if text.contains(PLUS) { CODE.into() } else { text.clone() };
            parts.iter().map(part).collect::<Vec<_>>().join(PLUS).into()
        }
    }
}

joined_keys!("Two": A.0, B.1);
joined_keys!("Three": A.0, B.1, C.2);
joined_keys!("Four": A.0, B.1, C.2, D.3);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::client_ip::ClientIp;
    use crate::key::global::Global;
    use crate::key::header::Header;
    use crate::key::tests::{bytes, missing, request};

    /// Writes any number of values, or finds no key.
    #[derive(Clone, Debug, PartialEq)]
    struct Parts(Vec<Vec<u8>>);

    impl KeyExtractor for Parts {
        fn key(&self, _: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
            self.0.iter().for_each(|part| out.write(part));
            Ok(())
        }
    }

    fn parts() -> impl Strategy<Value = Parts> {
        prop::collection::vec(prop::collection::vec(0_u8..11, 0..3), 0..3).prop_map(Parts)
    }

    proptest! {
        #[test]
        fn three_and_four_parts_are_kept_apart(a in any_four(), b in any_four()) {
            let request = request("/");
            prop_assert_eq!(a == b, bytes(&a, &request) == bytes(&b, &request));
            let three = |(a, b, c, _): (Parts, Parts, Parts, Parts)| (a, b, c);
            let (a, b) = (three(a), three(b));
            prop_assert_eq!(a == b, bytes(&a, &request) == bytes(&b, &request));
        }
    }

    fn any_four() -> impl Strategy<Value = (Parts, Parts, Parts, Parts)> {
        (parts(), parts(), parts(), parts())
    }

    #[test]
    fn values_that_move_between_parts_give_other_keys() {
        let p = |parts: &[&str]| Parts(parts.iter().map(|part| part.as_bytes().to_vec()).collect());
        let request = request("/");
        let keys = [
            bytes(&(p(&["a", "b"]), p(&[]), p(&["c"])), &request),
            bytes(&(p(&["a"]), p(&["b"]), p(&["c"])), &request),
            bytes(&(p(&["a"]), p(&["b", "c"]), p(&[])), &request),
            bytes(&(p(&[]), p(&[]), p(&["a", "b", "c"])), &request),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
    }

    #[test]
    fn joined_keys_are_global_if_all_parts_are() {
        assert!((Global, Global, Global).is_global());
        assert!((Global, Global, Global, Global).is_global());
        assert!(!(Global, ClientIp::peer(), Global).is_global());
        assert!(!(Global, Global, Global, ClientIp::peer()).is_global());
    }

    #[test]
    fn every_part_is_checked_and_needed() {
        assert!((Global, Global, Header::new("no name")).check().is_err());
        assert!((Global, Global, Global, Header::new("no name")).check().is_err());
        let expected = MissingKey::client_fault("the header that is the key is missing");
        assert_eq!(missing(&(Global, Header::new("a"), Global), &request("/")), expected);
    }
}
