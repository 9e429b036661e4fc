//! Where lanes that part at a branch meet again: its immediate post-dominator.
//!
//! Instructions that cannot reach a `ret` or `exit` (those that lead to `trap`, or loop for ever) are
//! left out of the graph, so that a panic path inside a branch does not move its meeting point to the
//! end of the kernel.

use crate::program::NONE;

/// Where an instruction may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edges {
    /// Labels it may jump to.
    pub jumps: Vec<u32>,
    /// Whether it may go on to the next instruction.
    pub falls_through: bool,
    /// Whether it may end the lane.
    pub returns: bool,
}

/// For every instruction with more than one successor the index of its immediate post-dominator, or
/// [`NONE`] if that is the end of the kernel.
pub fn reconvergence(edges: &[Edges], labels: &[u32]) -> Vec<u32> {
    let blocks = Blocks::new(edges, labels);
    let dominators = blocks.post_dominators();
    let mut meets = vec![NONE; edges.len()];
    for (block, &last) in blocks.last.iter().enumerate() {
        if blocks.successors[block].len() > 1
            && let Some(meet) = dominators[block]
            && meet != blocks.end()
        {
            meets[last] = blocks.first[meet] as u32;
        }
    }
    meets
}

/// Basic blocks; block number `end()` stands for the end of the kernel.
struct Blocks {
    first: Vec<usize>,
    last: Vec<usize>,
    successors: Vec<Vec<usize>>,
}

impl Blocks {
    fn new(edges: &[Edges], labels: &[u32]) -> Self {
        let count = edges.len();
        let mut leader = vec![false; count + 1];
        leader[0] = true;
        for &label in labels.iter().filter(|&&at| (at as usize) < count) {
            leader[label as usize] = true;
        }
        for (at, edge) in edges.iter().enumerate() {
            if !edge.jumps.is_empty() || !edge.falls_through || edge.returns {
                leader[at + 1] = true;
            }
        }
        let first: Vec<usize> = (0..count).filter(|&at| leader[at]).collect();
        let mut block_of = vec![first.len(); count + 1];
        let mut last = Vec::with_capacity(first.len());
        for (block, &start) in first.iter().enumerate() {
            let stop = first.get(block + 1).copied().unwrap_or(count);
            block_of[start..stop].fill(block);
            last.push(stop - 1);
        }
        let end = first.len();
        let successors = last
            .iter()
            .map(|&at| {
                let edge = &edges[at];
                let mut out: Vec<usize> = edge
                    .jumps
                    .iter()
                    .filter_map(|&label| block_of.get(labels[label as usize] as usize).copied())
                    .collect();
                if edge.falls_through {
                    out.push(block_of[at + 1]);
                }
                if edge.returns {
                    out.push(end);
                }
                out.sort_unstable();
                out.dedup();
                out
            })
            .collect();
        Self { first, last, successors }
    }

    fn end(&self) -> usize {
        self.first.len()
    }

    /// Immediate post-dominators (Cooper, Harvey, Kennedy: "A simple, fast dominance algorithm", on the
    /// reversed graph); `None` for blocks that cannot reach the end.
    fn post_dominators(&self) -> Vec<Option<usize>> {
        let end = self.end();
        let mut predecessors = vec![Vec::new(); end + 1];
        for (block, successors) in self.successors.iter().enumerate() {
            for &successor in successors {
                predecessors[successor].push(block);
            }
        }
        // Post-order of the reversed graph from the end.
        let mut order = vec![usize::MAX; end + 1];
        let mut sequence = Vec::with_capacity(end + 1);
        let mut visited = vec![false; end + 1];
        let mut stack = vec![(end, 0)];
        visited[end] = true;
        while let Some((block, next)) = stack.pop() {
            if let Some(&other) = predecessors[block].get(next) {
                stack.push((block, next + 1));
                if !visited[other] {
                    visited[other] = true;
                    stack.push((other, 0));
                }
            } else {
                order[block] = sequence.len();
                sequence.push(block);
            }
        }
        let mut dominator = vec![None; end + 1];
        dominator[end] = Some(end);
        let mut again = true;
        while again {
            again = false;
            for &block in sequence.iter().rev().filter(|&&b| b != end) {
                let mut new: Option<usize> = None;
                for &successor in &self.successors[block] {
                    if dominator[successor].is_none() {
                        continue;
                    }
                    new = Some(match new {
                        None => successor,
                        Some(other) => intersect(successor, other, &dominator, &order),
                    });
                }
                if dominator[block] != new {
                    dominator[block] = new;
                    again = true;
                }
            }
        }
        dominator
    }
}

fn intersect(a: usize, b: usize, dominator: &[Option<usize>], order: &[usize]) -> usize {
    let (mut a, mut b) = (a, b);
    while a != b {
        while order[a] < order[b] {
            a = dominator[a].unwrap_or(dominator.len() - 1);
        }
        while order[b] < order[a] {
            b = dominator[b].unwrap_or(dominator.len() - 1);
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Edges {
        Edges { jumps: vec![], falls_through: true, returns: false }
    }
    fn branch(label: u32, falls_through: bool) -> Edges {
        Edges { jumps: vec![label], falls_through, returns: false }
    }
    fn stop(returns: bool) -> Edges {
        Edges { jumps: vec![], falls_through: false, returns }
    }

    #[test]
    fn if_else_meets_behind_both() {
        // 0: @p bra L0(3); 1: step; 2: bra L1(4); 3: L0 step; 4: L1 ret
        let edges = [branch(0, true), step(), branch(1, false), step(), stop(true)];
        assert_eq!(reconvergence(&edges, &[3, 4])[0], 4);
    }

    #[test]
    fn trap_does_not_move_the_meeting_point() {
        // 0: @p bra L0(3); 1: @q bra L1(5); 2: step; 3: L0 step; 4: ret; 5: L1 trap
        let edges = [branch(0, true), branch(1, true), step(), step(), stop(true), stop(false)];
        let meets = reconvergence(&edges, &[3, 5]);
        assert_eq!((meets[0], meets[1]), (3, 2));
    }

    #[test]
    fn loop_meets_behind_its_end_and_endless_loops_are_no_problem() {
        // 0: L0 step; 1: @p bra L0; 2: ret
        let edges = [step(), branch(0, true), stop(true)];
        assert_eq!(reconvergence(&edges, &[0])[1], 2);
        // 0: @p bra L1(2); 1: L0 bra L0; 2: L1 bra L0
        let edges = [branch(1, true), branch(0, false), branch(0, false)];
        assert_eq!(reconvergence(&edges, &[1, 2]), [NONE; 3]);
    }
}
