//! Reads the files, and passes blocks of whole lines to the threads that read their fields.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::batch::{Batch, Wanted};
use crate::format::{Fields, Format, Parser, Record};
use crate::trace::Trace;

/// The size of a block, in bytes.
const BLOCK: usize = 1 << 20;
/// A longer line is cut, and its parts are bad lines.
const LONGEST_LINE: usize = 8 << 20;
/// How many lines are looked at to detect a format.
const LOOKED_AT: usize = 100;
/// A log has fewer requests than this. Their numbers have 32 bits.
const MOST_REQUESTS: usize = u32::MAX as usize;

/// The sources of the lines, and their readers.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) files: Vec<String>,
    /// `None` to detect it for each file.
    pub(crate) format: Option<Format>,
    pub(crate) fields: Fields,
}

/// A block of whole lines.
struct Job {
    file: usize,
    lines: Vec<u8>,
    parser: Arc<Parser>,
}

/// Reads all files into a trace.
///
/// # Errors
///
/// Returns a message for the user if a file cannot be read, or if its format is unknown.
pub(crate) fn read(input: &Input, wanted: &Wanted, spread: bool, bar: &ProgressBar) -> Result<Trace, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut trace = Trace::new(&wanted.columns, &wanted.hasher);
    thread::scope(|scope| {
        let (mut jobs, mut batches) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (send_job, receive_job) = sync_channel::<Job>(2);
            let (send_batch, receive_batch) = sync_channel(2);
            jobs.push(send_job);
            batches.push(receive_batch);
            scope.spawn(move || parse_blocks(&receive_job, &send_batch, wanted));
        }
        let reader = scope.spawn(move || read_files(input, &jobs, bar));
        let enough = collect(&mut trace, &input.files, &batches, spread);
        // If the trace is full, the threads find their channels closed.
        drop(batches);
        let formats = reader.join().map_err(|_| "the reader of the log panicked")??;
        trace.notes.formats = formats;
        enough
    })?;
    Ok(trace)
}

/// Puts the batches together in the order of the lines.
fn collect(
    trace: &mut Trace,
    files: &[String],
    batches: &[Receiver<(usize, Batch)>],
    spread: bool,
) -> Result<(), String> {
    let (mut has_fractions, mut line, mut last_file) = (false, 1, 0);
    // The reader deals the blocks in turn, and so do the batches come back.
    for from in batches.iter().cycle() {
        let Ok((file, batch)) = from.recv() else { break };
        if file != last_file {
            (last_file, line) = (file, 1);
        }
        trace.add(&batch, &files[file], line);
        line += batch.lines;
        has_fractions |= batch.has_fractions;
        if trace.len() >= MOST_REQUESTS {
            return Err("the log has more than 2^32 requests; replay it in parts, with --from and --to".into());
        }
    }
    trace.finish(has_fractions, spread);
    Ok(())
}

fn parse_blocks(jobs: &Receiver<Job>, batches: &SyncSender<(usize, Batch)>, wanted: &Wanted) {
    let mut record = Record::default();
    let mut own: Option<(usize, Parser)> = None;
    while let Ok(job) = jobs.recv() {
        let parser = match &mut own {
            Some((file, parser)) if *file == job.file => parser,
            other => &mut other.insert((job.file, Parser::clone(&job.parser))).1,
        };
        let batch = Batch::read(&job.lines, parser, &mut record, wanted);
        if batches.send((job.file, batch)).is_err() {
            return;
        }
    }
}

/// Reads all files; returns their formats.
fn read_files(input: &Input, jobs: &[SyncSender<Job>], bar: &ProgressBar) -> Result<Vec<String>, String> {
    let mut turns = jobs.iter().cycle();
    let mut formats = Vec::new();
    for (file, name) in input.files.iter().enumerate() {
        let failed = |error: io::Error| format!("cannot read {name}: {error}");
        let mut source = open(name, bar).map_err(failed)?;
        let mut parser: Option<Arc<Parser>> = None;
        let mut rest = Vec::new();
        while let Some(lines) = next_block(&mut source, &mut rest).map_err(failed)? {
            let parser = match &parser {
                Some(parser) => parser,
                None => {
                    let start = lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
                    let start: Vec<&[u8]> = start.filter(|line| !line.is_empty()).take(LOOKED_AT).collect();
                    let format = match input.format {
                        Some(format) => format,
                        None => Format::detect(&start, &input.fields).map_err(|error| format!("{name}: {error}"))?,
                    };
                    if !formats.contains(&format.to_string()) {
                        formats.push(format.to_string());
                    }
                    let new = Parser::new(format, &input.fields).map_err(|error| format!("{name}: {error}"))?;
                    parser.insert(Arc::new(new))
                }
            };
            let job = Job { file, lines, parser: Arc::clone(parser) };
            let is_taken = turns.next().is_some_and(|to| to.send(job).is_ok());
            if !is_taken {
                return Ok(formats);
            }
        }
    }
    Ok(formats)
}

/// Opens a file, or standard input for `-`. Its first bytes show whether it is compressed.
fn open(name: &str, bar: &ProgressBar) -> io::Result<Box<dyn Read>> {
    let source: Box<dyn Read> = match name {
        "-" => Box::new(io::stdin()),
        name => Box::new(File::open(name)?),
    };
    let mut source = bar.wrap_read(source);
    let mut start = Vec::new();
    source.by_ref().take(2).read_to_end(&mut start)?;
    let is_gzip = start == [0x1f, 0x8b];
    let whole = io::Cursor::new(start).chain(source);
    Ok(if is_gzip {
        Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(1 << 16, whole)))
    } else {
        Box::new(whole)
    })
}

/// The next whole lines, or `None` at the end. `rest` has the start of the next line.
fn next_block(source: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut block = std::mem::take(rest);
    let mut filled = block.len();
    loop {
        block.resize(filled + BLOCK, 0);
        let before = filled;
        while filled < block.len() {
            match source.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_end = filled < block.len();
        block.truncate(filled);
        if is_end {
            return Ok((!block.is_empty()).then_some(block));
        }
        if let Some(end) = memchr::memrchr(b'\n', &block[before..]) {
            rest.extend_from_slice(&block[before + end + 1..]);
            block.truncate(before + end + 1);
            return Ok(Some(block));
        }
        if block.len() >= LONGEST_LINE {
            return Ok(Some(block));
        }
    }
}
