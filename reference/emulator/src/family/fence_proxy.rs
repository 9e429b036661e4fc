//! Fences between proxies (PTX ISA, "fence.proxy").

use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::machine::{Action, Flow};

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "fence.proxy.async",
        family: "fence",
        meaning: "lets the async proxy see what the generic proxy wrote, and the other way round: {.global,.shared::cta,.shared::cluster}",
        decode: decode_async,
    },
    Opcode {
        name: "fence.proxy.async::generic",
        family: "fence",
        meaning: "as fence.proxy.async: .{acquire,release}.sync_restrict::shared::{cta,cluster}.cluster",
        decode: decode_async_generic,
    },
    Opcode {
        name: "fence.proxy.tensormap::generic",
        family: "fence",
        meaning: "orders changes of tensor maps: .{acquire,release}.{cta,cluster,gpu,sys}; nothing to do here",
        decode: decode_tensor_map,
    },
    Opcode {
        name: "fence.proxy.alias",
        family: "fence",
        meaning: "orders accesses through different virtual addresses; nothing to do here",
        decode: |_| Ok(Box::new(|_| Ok(Flow::Next))),
    },
];

fn fence(shared: bool) -> Action {
    Box::new(move |m| {
        if shared {
            m.warp.clock.fence_proxy();
        }
        Ok(Flow::Next)
    })
}

fn decode_async(d: &mut Decode<'_>) -> Result<Action, Error> {
    let only_global = d.take("global");
    let _ = !only_global && (d.take("shared::cta") || d.take("shared::cluster"));
    Ok(fence(!only_global))
}

fn decode_async_generic(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.one_of(&[("acquire", ()), ("release", ())])?;
    d.one_of(&[("sync_restrict::shared::cta", ()), ("sync_restrict::shared::cluster", ())])?;
    d.expect("cluster")?;
    Ok(fence(true))
}

fn decode_tensor_map(d: &mut Decode<'_>) -> Result<Action, Error> {
    let acquires = d.one_of(&[("acquire", true), ("release", false)])?;
    d.one_of(&[("cta", ()), ("cluster", ()), ("gpu", ()), ("sys", ())])?;
    if acquires {
        d.address()?;
        d.immediate()?;
    }
    Ok(Box::new(|_| Ok(Flow::Next)))
}
