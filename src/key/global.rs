use std::borrow::Cow;

use super::extractor::KeyExtractor;
use super::missing_key::MissingKey;
use super::request_view::RequestView;
use super::writer::KeyWriter;

/// One key for all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Global;

impl KeyExtractor for Global {
    fn key(&self, _: &RequestView<'_>, _: &mut KeyWriter) -> Result<(), MissingKey> {
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }

    fn text(&self) -> Cow<'static, str> {
        "global".into()
    }
}
