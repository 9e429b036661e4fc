//! Memory fences (PTX ISA, "membar, fence"). Accesses happen one after the other here, so a fence has
//! nothing to do; what orders shared memory for the race detection is in [`super::atomic`]. Proxy fences
//! are with the asynchronous families.

use super::Opcode;
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::{Action, Flow};

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "membar",
        family: "fence",
        meaning: "order memory accesses; .cta .gl .sys",
        decode: membar,
    },
    Opcode {
        name: "fence",
        family: "fence",
        meaning: "order memory accesses; .sc .acq_rel .acquire .release, .cta .cluster .gpu .sys",
        decode: fence,
    },
];

fn membar(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.one_of(&[("cta", ()), ("gl", ()), ("sys", ())])?;
    Ok(Box::new(|_| Ok(Flow::Next)))
}

fn fence(d: &mut Decode<'_>) -> Result<Action, Error> {
    let known = ["sc", "acq_rel", "acquire", "release"];
    let _semantics = known.iter().any(|modifier| d.take(modifier));
    d.one_of(&[("cta", ()), ("cluster", ()), ("gpu", ()), ("sys", ())])?;
    Ok(Box::new(|_| Ok(Flow::Next)))
}
