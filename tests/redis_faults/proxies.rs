//! A proxy before several servers, which takes one key in a call and says so in words of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions};

use crate::support::servers::{Flavor, Server};

/// One value of the protocol, as it stands on the wire, and the words of a command.
fn read(from: &mut impl BufRead) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut raw = Vec::new();
    from.read_until(b'\n', &mut raw).ok().filter(|length| *length > 0)?;
    let number = String::from_utf8_lossy(&raw[1..]).trim().parse::<i64>();
    let mut words = Vec::new();
    match (raw[0], number) {
        (b'$', Ok(length @ 0..)) => {
            let mut bytes = vec![0; length as usize + 2];
            from.read_exact(&mut bytes).ok()?;
            words.push(bytes[..length as usize].to_vec());
            raw.extend(bytes);
        }
        (b'*', Ok(count)) => {
            for _ in 0..count {
                let (part, word) = read(from)?;
                raw.extend(part);
                words.extend(word);
            }
        }
        _ => {}
    }
    Some((raw, words))
}

fn serve(client: &TcpStream, port: u16, refused: &AtomicUsize) -> Option<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let (mut asks, mut answers) = (BufReader::new(client), BufReader::new(server.try_clone().ok()?));
    loop {
        let (raw, words) = read(&mut asks)?;
        let is_script = words.first().is_some_and(|name| name.starts_with(b"EVAL"));
        if is_script && words.get(2).is_some_and(|keys| keys != b"1") {
            refused.fetch_add(1, Ordering::Relaxed);
            (&mut &*client).write_all(b"-ERR proxy: the arguments hash to several backends\r\n").ok()?;
            continue;
        }
        server.write_all(&raw).ok()?;
        (&mut &*client).write_all(&read(&mut answers)?.0).ok()?;
    }
}

#[test]
fn calls_of_one_key_follow_a_refusal_of_several_in_unknown_words() {
    let server = Server::start(Flavor::Debian);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (port, refused) = (server.port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&refused);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            thread::spawn(move || serve(&client, port, &counted));
        }
    });
    let redis =
        RedisOptions::url(url).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject).instances(1);
    let limiter = Arc::new(RateLimiter::builder().redis(redis).build().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rate = RateLimit::try_from(1_000.0).unwrap();
    let all = |_| {
        let ask = |number: usize| {
            let limiter = Arc::clone(&limiter);
            runtime.spawn(async move { limiter.redis().absolute().inc(format!("{number}"), &rate, 1).await.is_ok() })
        };
        let asks: Vec<_> = (0..64).map(ask).collect();
        asks.into_iter().filter_map(|ask| runtime.block_on(ask).ok()).filter(|is_ok| *is_ok).count()
    };
    let served: Vec<usize> = (0..10).map(all).collect();
    assert!(refused.load(Ordering::Relaxed) > 0, "several keys went together once");
    assert_eq!(served[5..], [64; 5], "{served:?}");
}
