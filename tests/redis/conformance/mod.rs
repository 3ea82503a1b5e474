//! One suite over every store and both strategies: what a limiter promises is the same wherever its history is.
//!
//! Each check runs on the local store and on Redis, on every kind of server that this machine has, with the
//! absolute and with the suppressed strategy. A new store is one more line of `calls!` and one more `Rig`.
//! The checks of `engine` are about the calls on a key, those of `policies` about what a layer opens, and those of
//! `timed` wait for real windows of one second; none asserts a speed.
#![cfg(all(unix, feature = "middleware", feature = "redis-tokio"))]
#![allow(clippy::unwrap_used)]

mod engine;
mod policies;
mod reservations;
mod stores;
mod suppressed;
mod timed;
mod waiting;

use self::stores::{Kind, Rig};

/// Makes a test of each check: on every store, with both strategies, and a window of so many seconds.
macro_rules! on_every_store {
    ($window:literal: $($room:ident::$check:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            for rig in Rig::all($window, 1.0) {
                for kind in [Kind::Absolute, Kind::Suppressed] {
                    println!("{} {kind:?}", rig.name);
                    $room::$check(&rig, kind).await;
                }
            }
        }
    )*};
}

on_every_store! {
    60:
    engine::what_fits_is_admitted_and_the_rest_refused,
    engine::a_cost_is_charged_as_a_whole_or_not_at_all,
    engine::a_cost_can_be_asked_for_without_a_charge,
    engine::a_cost_of_nothing_only_looks,
    engine::a_cost_above_the_limit_never_fits,
    engine::a_changed_rate_applies_at_once_to_the_history,
    engine::any_bytes_are_a_key_of_their_own,
    engine::a_total_is_set_where_the_comparator_holds,
    engine::a_history_is_kept_as_far_as_the_new_total_has_room,
    engine::a_deleted_key_is_as_new,
    engine::clear_forgets_the_keys_of_the_calls_and_no_others,
    engine::tasks_and_instances_together_get_exactly_the_limit,
    policies::layers_of_one_name_and_limiter_share_a_budget,
    policies::several_quotas_are_charged_together_or_not_at_all,
    policies::quotas_of_one_name_look_at_one_history,
    policies::a_refund_takes_back_what_was_charged_and_no_more,
}

on_every_store! {
    1:
    timed::a_refused_request_is_admitted_after_the_wait_that_it_was_told_and_not_before,
    timed::a_unit_comes_back_after_its_window,
}

/// Makes a test of each check of the suppressed strategy alone, with room between the limit and the hard cap.
macro_rules! of_the_suppressed {
    ($($check:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            for rig in Rig::all(60, 1.5) {
                println!("{}", rig.name);
                suppressed::$check(&rig).await;
            }
        }
    )*};
}

of_the_suppressed! {
    nothing_is_shed_below_the_limit_and_nothing_passes_the_hard_cap,
    the_factor_tells_where_the_key_stands,
    a_lower_total_ends_the_shedding,
    both_strategies_charge_one_history,
}

/// Only the hybrid store has it: the local one always decides at once, and the Redis store never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_at_once_charges_once_or_not_at_all() {
    for rig in Rig::all(60, 1.0) {
        for kind in [Kind::Absolute, Kind::Suppressed] {
            println!("{} {kind:?}", rig.name);
            engine::a_decision_at_once_charges_once_or_not_at_all(&rig, kind).await;
        }
    }
}

#[tokio::test]
async fn a_limiter_without_redis_says_so_in_every_call_and_when_a_layer_is_built() {
    policies::without_redis().await;
}
