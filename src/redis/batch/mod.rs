//! Batches: decisions that arrive while a round trip is under way go together with the next.

mod call;
mod dispatcher;
mod question;
mod queue;

pub(crate) use self::dispatcher::Dispatcher;
pub(crate) use self::question::{KeyReply, KeyRequest, Payload};
