//! The kernel's side of a filter, for tests: checks a program as seccomp(2) would, and runs it.
//!
//! Nothing of the runtime uses it. It knows the instructions by their numbers from the kernel's headers and shares
//! no code with the compiler, so that a misunderstanding there is not repeated here.

use libc::sock_filter;

/// What a filter sees: `struct seccomp_data`, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) nr: u32,
    pub(super) arch: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> Option<u32> {
        let arg = |i: u32| self.args.get(i as usize).copied();
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            // The instruction pointer; no filter of ours asks for it.
            8 | 12 => Some(0),
            o if o % 4 != 0 => None,
            o if o % 8 == 0 => arg((o - 16) / 8).map(|v| v as u32),
            o => arg((o - 20) / 8).map(|v| (v >> 32) as u32),
        }
    }
}

/// The kernel's own checks: known opcodes, loads inside the data, jumps inside the program, a return at the end.
pub(super) fn check(program: &[sock_filter]) -> Result<(), String> {
    if program.is_empty() || program.len() > 4096 {
        return Err(format!("{} instructions", program.len()));
    }
    // The kernel's check_load_and_stores(): which words of memory are written on every way to an instruction.
    let mut masks = vec![!0u16; program.len()];
    let mut valid = 0u16;
    for (i, insn) in program.iter().enumerate() {
        valid &= masks[i];
        match insn.code {
            0x02 => valid |= 1 << insn.k,
            0x60 if valid & 1 << insn.k == 0 => return Err(format!("instruction {i} recalls what was not remembered")),
            0x05 if i + 1 + (insn.k as usize) < program.len() => {
                masks[i + 1 + insn.k as usize] &= valid;
                valid = !0;
            }
            0x15 | 0x25 | 0x35 | 0x45 => {
                for to in
                    [insn.jt, insn.jf].map(|j| i + 1 + usize::from(j)).into_iter().filter(|to| *to < program.len())
                {
                    masks[to] &= valid;
                }
                valid = !0;
            }
            _ => {}
        }
        let left = program.len() - i - 1;
        let fits = match insn.code {
            0x20 => insn.k % 4 == 0 && insn.k < 64,
            0x54 | 0x06 | 0x16 | 0x00 => true,
            0x02 | 0x60 => insn.k < 16,
            0x05 => (insn.k as usize) < left,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(insn.jt.max(insn.jf)) < left,
            _ => false,
        };
        if !fits {
            return Err(format!("instruction {i}: {insn:?}"));
        }
    }
    match program.last() {
        Some(last) if last.code == 0x06 || last.code == 0x16 => Ok(()),
        last => Err(format!("ends with {last:?}")),
    }
}

/// Runs a program that `check` accepts: the value it returns, and how many instructions that took.
pub(super) fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut a, mut pc, mut steps) = (0u32, 0usize, 0usize);
    let mut memory = [0u32; 16];
    loop {
        let insn = program[pc];
        pc += 1;
        steps += 1;
        let mut jump = |taken: bool| pc += usize::from(if taken { insn.jt } else { insn.jf });
        match insn.code {
            0x20 => a = call.word(insn.k).expect("a load inside the data"),
            0x54 => a &= insn.k,
            0x05 => pc += insn.k as usize,
            0x15 => jump(a == insn.k),
            0x25 => jump(a > insn.k),
            0x35 => jump(a >= insn.k),
            0x45 => jump(a & insn.k != 0),
            0x00 => a = insn.k,
            0x02 => memory[insn.k as usize] = a,
            0x60 => a = memory[insn.k as usize],
            0x06 => return (insn.k, steps),
            0x16 => return (a, steps),
            other => panic!("opcode {other:#x}"),
        }
    }
}
