#![doc = include_str!("../../docs/layer-order.md")]
