//! Decide: what a compiled filter answers to one call.
//!
//! For filters of which only the program is left: those that `create` recorded for an exec. It reads the instructions that
//! the compiler writes; whatever else it meets is no permission.

use crate::plan::step::SockFilter;

/// SECCOMP_RET_ALLOW, and SECCOMP_RET_LOG, which allows and says so.
const PERMITS: [u32; 2] = [0x7fff_0000, 0x7ffc_0000];

/// Whether the call goes through.
pub fn lets(program: &[SockFilter], arch: u32, number: u32, args: [u64; 6]) -> bool {
    answer(program, arch, number, args).is_some_and(|ret| PERMITS.contains(&(ret & 0xffff_0000)))
}

/// The returned value. A filter has no loops, so every jump leads on and this ends.
fn answer(program: &[SockFilter], arch: u32, number: u32, args: [u64; 6]) -> Option<u32> {
    let word = |offset: u32| match offset {
        0 => Some(number),
        4 => Some(arch),
        16..64 if offset.is_multiple_of(4) => {
            let arg = args[(offset as usize - 16) / 8];
            Some(if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 })
        }
        _ => None,
    };
    let (mut a, mut at, mut memory) = (0u32, 0usize, [0u32; 16]);
    loop {
        let SockFilter { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let mut jump = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match code {
            0x00 => a = k,
            0x02 => *memory.get_mut(k as usize)? = a,
            0x05 => at += k as usize,
            0x06 => return Some(k),
            0x15 => jump(a == k),
            0x16 => return Some(a),
            0x20 => a = word(k)?,
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x54 => a &= k,
            0x60 => a = *memory.get(k as usize)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::syscalls::{Abi, Syscall};

    #[test]
    fn it_answers_as_the_profile_reads() {
        let profile: oci_spec::runtime::LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
                "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},{"names":["openat"],"action":"SCMP_ACT_LOG"},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,
                "op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
        )
        .unwrap();
        let program = crate::seccomp::compile(&profile).unwrap().insns;
        let abi = Abi::NATIVE;
        let asks = |name: &str, arg: u64| {
            let number = Syscall::named(name).unwrap().number(abi).unwrap();
            let expected = crate::seccomp::verdict(&profile, abi.audit(), number, [arg, 0, 0, 0, 0, 0]).permits();
            let said = lets(&program, abi.audit(), number, [arg, 0, 0, 0, 0, 0]);
            assert_eq!(said, expected, "{name} {arg:#x}");
            said
        };
        assert!(asks("read", 0) && asks("write", 7) && asks("openat", 0) && asks("clone", 0x9000));
        assert!(!asks("clone", 0x1000_0000) && !asks("mount", 0) && !asks("execve", 0));
        // A word that is none of a call's, and a program that ends without an answer.
        let load = SockFilter { code: 0x20, jt: 0, jf: 0, k: 64 };
        let ret = SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
        assert!(lets(&[ret], 0, 0, [0; 6]));
        assert!(!lets(&[load, ret], 0, 0, [0; 6]) && !lets(&[], 0, 0, [0; 6]));
    }
}
