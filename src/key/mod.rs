//! Who is limited: keys, and how they are read from a request.
//!
//! A [`KeyExtractor`] sees a [`RequestView`], which names no body type, and writes a key's bytes into a
//! [`KeyWriter`]. What is written is injective: two different sequences of values never give the same bytes,
//! so keys can be joined without separators and no client can forge another one's.

mod cardinality;
mod client_ip;
mod cookie;
mod credentials;
mod digest;
mod extension;
mod extractor;
mod from_fn;
mod global;
mod grpc;
mod header;
mod http_method;
mod joined;
mod lookup;
mod missing_key;
mod percent;
mod request_view;
#[cfg(feature = "axum")]
mod route;
#[cfg(test)]
mod tests;
mod writable;
mod writer;

pub use self::client_ip::ClientIp;
pub use self::cookie::Cookie;
pub use self::extension::Extension;
pub use self::extractor::KeyExtractor;
pub(crate) use self::from_fn::FromFn;
pub use self::from_fn::IntoKey;
pub use self::global::Global;
pub use self::grpc::{GrpcMethod, GrpcService};
pub use self::header::Header;
pub use self::http_method::HttpMethod;
pub(crate) use self::lookup::{Lookup, PendingKey};
pub(crate) use self::missing_key::Fault;
pub use self::missing_key::MissingKey;
pub use self::request_view::RequestView;
#[cfg(feature = "axum")]
pub use self::route::Route;
pub use self::writer::{Key, KeyWriter};
