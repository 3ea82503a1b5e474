//! The example of a client, which runs to its end.

use std::process::{Command, Stdio};

use crate::programs::program;

#[test]
fn a_client_does_all_its_jobs_with_few_refusals() {
    let run = Command::new(program("client_side")).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{text}");
    let done = |job: u32| text.contains(&format!("job {job}: 200 OK"));
    assert!((1..=12).all(done), "{text}");
    // The server admits 4 in a second, and refuses one request more before the client waits.
    let refused = text.matches("429 Too Many Requests").count();
    assert!(refused <= 3, "{text}");
    assert!(text.ends_with(&format!("12 jobs took {} requests\n", 12 + refused)), "{text}");
}
