mod flight;
mod freshness;
mod memory;
mod single_flight;
mod source;
