//! Requests with several limits, which one script call decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Dispatcher;
use crate::redis::batch::question::{JointKey, KeyReply, Question, joint_arguments, joint_bodies};
use crate::redis::transport::{Failure, slot};
use crate::script::{JOINT, ScriptReply};

impl Dispatcher {
    /// Whether one call may have keys of all these names.
    pub(crate) fn joins<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>) -> bool {
        if !self.has_slots() {
            return true;
        }
        let mut slots = names.into_iter().map(slot);
        slots.next().is_none_or(|first| slots.all(|slot| slot == first))
    }

    /// Sends one request with several limits, in a batch with concurrent ones. The keys [join](Self::joins).
    pub(crate) async fn decide_jointly(self: &Arc<Self>, keys: Box<[JointKey]>) -> Result<KeyReply, Failure> {
        let count = keys.len();
        let reply = self.exchange(Question::Joint(keys)).await?;
        let records = reply.read()?;
        if (0..count).any(|index| records.is_foreign_at(index)) {
            let _ = self.on_foreign();
        }
        Ok(reply)
    }

    pub(super) async fn decide_joint_alone(&self, keys: &[JointKey], within: Duration) -> Result<KeyReply, Failure> {
        let names: Vec<&[u8]> = keys.iter().map(|key| &*key.name).collect();
        let bodies: Vec<Vec<u8>> = joint_bodies(keys).collect();
        let args = joint_arguments(keys.iter().map(|key| &key.policy).zip(&bodies));
        let sent = Instant::now();
        let result = self.evaluate(&JOINT, &names, &args, within).await;
        self.learn_slots(&result);
        let (answer, total) = (Arc::new(result?), keys.len() * ScriptReply::RECORD);
        Ok(KeyReply { answer, total, part: 0..total, sent, received: Instant::now() })
    }
}
