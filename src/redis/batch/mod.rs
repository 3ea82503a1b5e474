//! Batches: decisions that arrive during a round trip share the next one.

mod call;
mod dispatcher;
mod joint;
mod question;
mod queue;

pub(crate) use self::dispatcher::Dispatcher;
pub(crate) use self::question::{JointKey, KeyReply, KeyRequest, Payload};
