//! Control flow (PTX ISA, "Control flow instructions"). Divergence itself is in [`crate::warp`].

use super::Opcode;
use crate::decode::Decode;
use crate::error::{Error, Stop};
use crate::machine::{Action, Flow, lanes_of};
use crate::value::Type;

const FAMILY: &str = "control";

pub(super) const TABLE: &[Opcode] = &[
    Opcode { name: "bra", family: FAMILY, meaning: "go to a label; .uni", decode: bra },
    Opcode {
        name: "brx.idx",
        family: FAMILY,
        meaning: "go to the label with that index in a .branchtargets list; .uni",
        decode: brx,
    },
    Opcode {
        name: "call",
        family: FAMILY,
        meaning: "call a .func of the module with .param arguments; expanded in place; .uni",
        decode: |d| Err(d.error("unknown modifier of call")),
    },
    Opcode { name: "ret", family: FAMILY, meaning: "return; .uni", decode: ret },
    Opcode { name: "exit", family: FAMILY, meaning: "end the lane", decode: exit },
    Opcode { name: "trap", family: FAMILY, meaning: "end the launch with an error", decode: trap },
    Opcode {
        name: "nanosleep",
        family: FAMILY,
        meaning: "let another warp run; .u32",
        decode: nanosleep,
    },
];

fn bra(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.take("uni");
    let label = d.label()?;
    d.never_falls_through();
    Ok(Box::new(move |_| Ok(Flow::Jump(label))))
}

fn brx(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.take("uni");
    let index = d.src(Type::U32)?;
    let labels = d.label_list()?;
    d.never_falls_through();
    Ok(Box::new(move |m| {
        m.demand(m.poison(index) & m.lanes, "the index of brx.idx");
        let mut targets = Box::new([0; 32]);
        for lane in lanes_of(m.lanes) {
            let index = m.get(index)[lane];
            let Some(label) = labels.get(index as usize) else {
                return Err(m.unsupported(format!("index {index} of {} targets", labels.len())));
            };
            targets[lane] = *label;
        }
        Ok(Flow::Targets(targets))
    }))
}

fn ret(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.take("uni");
    d.never_falls_through();
    Ok(match d.return_label() {
        Some(label) => Box::new(move |_| Ok(Flow::Jump(label))),
        None => Box::new(|_| Ok(Flow::Exit)),
    })
}

fn exit(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.never_falls_through();
    Ok(Box::new(|_| Ok(Flow::Exit)))
}

fn trap(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.never_falls_through();
    Ok(Box::new(|m| Err(Stop::Trap(Box::new(m.place(Some(m.lanes.trailing_zeros())))))))
}

fn nanosleep(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("u32")?;
    d.src(Type::U32)?;
    Ok(Box::new(|_| Ok(Flow::Yield)))
}
