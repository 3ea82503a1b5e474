//! The engine and the local store, through the public API: limits, keys, memory and time.

mod api_examples;
mod full_table;
mod names;
mod reservations;
mod time;
mod together;
mod waiting;
