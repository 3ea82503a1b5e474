/// The form of the body of an HTTP refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalBody {
    /// `application/problem+json` (RFC 9457), with the names of the limits without room.
    #[default]
    Problem,
    /// A short text.
    Text,
    /// No body.
    Empty,
}
