//! Keys: which client is limited, and how a request's key is read.
//!
//! A [`KeyExtractor`] reads a [`RequestView`], which has no body type, and writes the bytes of a key into a
//! [`KeyWriter`]. The bytes are injective: two different sequences of values never give the same bytes. So keys can be
//! joined without separators, and no client can forge the key of another client.

mod cardinality;
mod cidr;
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
mod key_name;
mod key_parts;
mod key_shape;
mod lookup;
mod missing_key;
mod networks;
#[cfg(feature = "serde")]
mod networks_as_data;
mod parsed_key;
mod percent;
mod request_view;
#[cfg(feature = "axum")]
mod route;
mod target_host;
#[cfg(test)]
pub(crate) mod tests;
mod writable;
mod writer;

pub use self::client_ip::ClientIp;
pub use self::cookie::Cookie;
pub use self::extension::Extension;
pub(crate) use self::extractor::CODE;
pub use self::extractor::KeyExtractor;
pub(crate) use self::from_fn::FromFn;
pub use self::from_fn::IntoKey;
pub use self::global::Global;
pub(crate) use self::grpc::service as grpc_service;
pub use self::grpc::{GrpcMethod, GrpcService};
pub use self::header::Header;
pub use self::http_method::HttpMethod;
#[cfg(feature = "admin")]
pub(crate) use self::key_name::Hex;
pub use self::key_name::KeyName;
#[cfg(feature = "admin")]
pub(crate) use self::key_parts::KeyPart;
pub(crate) use self::key_parts::KeyParts;
pub(crate) use self::key_shape::KeyShape;
pub(crate) use self::lookup::{Lookup, PendingKey};
pub(crate) use self::missing_key::Fault;
pub use self::missing_key::MissingKey;
pub use self::networks::{IntoNetworks, Networks};
pub use self::parsed_key::ParsedKey;
pub use self::request_view::RequestView;
pub(crate) use self::request_view::content_length;
#[cfg(feature = "axum")]
pub use self::route::Route;
pub use self::target_host::TargetHost;
pub use self::writer::{Key, KeyWriter};
