//! What a change of the members would move, before anyone makes it.

use std::ffi::c_char;

use super::convert::{Behind, free_report, options, required_text, text};
use super::guard::{quietly, required, with_ring};
use super::life::weight;
use super::status::ringkv_status;
use super::types::*;
use crate::ring::plan::{Plan, Share};

/// What adding a node would move. It need not run yet: `address` is where it will listen, and
/// `options` are those it will be started with (the name, the weight and `RINGKV_NODE_ROUTER`
/// count).
///
/// Everything passed in is borrowed for the call; NULL options stand for the defaults. On
/// success `*out_plan` is yours: release it with `ringkv_plan_free`. Any thread, side by side.
/// Blocks as `ringkv_ring_info`. The ring may change meanwhile, so it is a forecast.
///
/// `RINGKV_INVALID_ARGUMENT`, `RINGKV_UNSUPPORTED`, `RINGKV_UNAVAILABLE`, `RINGKV_TIMEOUT`,
/// `RINGKV_CLOSED`, `RINGKV_FORKED`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_plan_add(
    ring: *mut ringkv_t,
    address: *const c_char,
    options: *const ringkv_node_options,
    out_plan: *mut *mut ringkv_plan,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_plan, "out_plan")?;
        // SAFETY: the caller vouches for the text, the options and the texts in them.
        let (address, name, weight) = unsafe {
            let given = self::options(options)?;
            (required_text(address, "address")?, text(given.name, "name")?, weight(&given)?)
        };
        let plan = ring.plan_add(name.unwrap_or(address), address, weight)?;
        // SAFETY: `out_plan` was checked above.
        unsafe { out_plan.write(plan_for_c(&plan)) };
        Ok(())
    })
}

/// What dropping a member, given by name or by address, would move. `RINGKV_NO_SUCH_MEMBER` and
/// otherwise as `ringkv_plan_add`. Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_plan_drop(
    ring: *mut ringkv_t,
    name_or_address: *const c_char,
    out_plan: *mut *mut ringkv_plan,
) -> ringkv_status {
    with_ring(ring, |ring| {
        required(out_plan, "out_plan")?;
        // SAFETY: the caller vouches for the text.
        let member = unsafe { required_text(name_or_address, "name_or_address") }?;
        let plan = plan_for_c(&ring.plan_drop(member)?);
        // SAFETY: `out_plan` was checked above.
        unsafe { out_plan.write(plan) };
        Ok(())
    })
}

/// Releases a plan and sets `*plan` to NULL. NULL and a pointer to NULL are fine. Any thread,
/// never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringkv_plan_free(plan: *mut *mut ringkv_plan) {
    // SAFETY: the caller vouches that it came from `ringkv_plan_add` or `ringkv_plan_drop`.
    quietly(|| unsafe { free_report(plan) });
}

fn plan_for_c(plan: &Plan) -> *mut ringkv_plan {
    let mut behind = Behind::default();
    let mut shares = |shares: &[Share]| {
        let shares = shares.iter().map(|share| share_for_c(share, &mut behind)).collect();
        behind.pointers::<ringkv_share>(shares)
    };
    let (before, after) = (shares(&plan.shares_before), shares(&plan.shares_after));
    behind.hand_over(ringkv_plan {
        copies_moved: plan.partitions_moved as u64,
        primaries_moved: plan.primaries_moved as u64,
        keys: plan.keys,
        bytes: plan.bytes,
        ideal_bytes: plan.ideal_bytes,
        before_count: plan.shares_before.len(),
        before,
        after_count: plan.shares_after.len(),
        after,
    })
}

fn share_for_c(share: &Share, behind: &mut Behind) -> ringkv_share {
    ringkv_share {
        id: share.mid.0,
        name: behind.text(&share.name),
        share: share.share,
        weight: share.weight,
        primaries: share.primaries as u32,
        copies: share.copies as u32,
        reserved: 0,
    }
}
