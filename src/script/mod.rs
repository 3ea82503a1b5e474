//! The scripts, which implement the engine's algorithm a second time, and the encoding of their arguments and replies.
//!
//! All numbers are packed in little endian, so parsing a call takes few instructions on either side. A differential
//! test feeds the same traces to both algorithms and requires equal outcomes.

mod joint;
mod lease;
mod lease_id;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use redis::Cmd;

pub(crate) use self::joint::JointAsk;
pub(crate) use self::lease::{Report, ReportKind, SyncReply, SyncRequest};
pub(crate) use self::lease_id::LeaseId;
pub(crate) use self::wire::{Ask, Correction, CorrectionReply, EncodedPolicy, Lending, Mode, ScriptReply};

/// The text of [`DECIDE`].
///
/// Some parts are functions within the previous one. Lua then finds what the functions of different parts share without
/// a search, which took a fifth of the time.
macro_rules! decide {
    () => {
        concat!(
            include_str!("head.lua"),
            include_str!("plain.lua"),
            "return (function()\n",
            include_str!("window.lua"),
            include_str!("limits.lua"),
            include_str!("charge.lua"),
            "local report, lend\nif interval > 0 then\n",
            include_str!("leases.lua"),
            include_str!("lease.lua"),
            "end\nreturn (function()\n",
            include_str!("decide.lua"),
            "return (function()\n",
            include_str!("suppressed.lua"),
            "end)() end)() end)()\n",
        )
    };
}

/// Decides on the costs of many keys, and gives leases.
pub(crate) static DECIDE: LazyLock<Script> = LazyLock::new(|| Script::new(decide!()));

/// Decides on requests with several limits, and charges each request to all of its keys or to none.
pub(crate) static JOINT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("joint_head.lua"), decide!(), include_str!("joint.lua"))));

/// Sets, refunds and deletes a key, and reserves units.
pub(crate) static CORRECT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("head.lua"),
        include_str!("window.lua"),
        include_str!("charge.lua"),
        include_str!("leases.lua"),
        include_str!("correct.lua"),
    ))
});

/// A script and its name on the server.
pub(crate) struct Script {
    body: &'static str,
    sha: String,
}

impl Script {
    fn new(body: &'static str) -> Self {
        Self { body, sha: redis::Script::new(body).get_hash().to_owned() }
    }

    /// Calls a script that the server probably has.
    pub(crate) fn evalsha<'a>(&self, keys: &[&'a [u8]], args: impl IntoIterator<Item = &'a [u8]>) -> Cmd {
        Self::command("EVALSHA", &self.sha, keys, args)
    }

    /// Calls a script with its text.
    ///
    /// `SCRIPT LOAD` is unsuitable: on a cluster it goes to every node, and one dead node would fail them all.
    pub(crate) fn eval<'a>(&self, keys: &[&'a [u8]], args: impl IntoIterator<Item = &'a [u8]>) -> Cmd {
        Self::command("EVAL", self.body, keys, args)
    }

    fn command<'a>(name: &str, script: &str, keys: &[&'a [u8]], args: impl IntoIterator<Item = &'a [u8]>) -> Cmd {
        let mut command = Cmd::with_capacity(2 * keys.len() + 5, script.len() + 96 * keys.len() + 160);
        command.arg(name).arg(script).arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        for arg in args {
            command.arg(arg);
        }
        command
    }
}
