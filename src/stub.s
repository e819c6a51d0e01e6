# The stub: a program of eighty instructions and no library. It makes the system calls of a table, one after the other, and
# then executes the workload. stub.rs writes the table and says why there is such a program.
#
# The head is one word: the descriptor that failures are written to. An entry of the table is nine words: a number, six
# arguments, the result that is due (-1: any but an error), and the failure to tell (0: an error does not matter). The number
# -1 ends the table; its failure is that of the execve.
#
# A failure is three words: address and length of a message, and the address of four bytes in it for the errno.
#
# argv is the path of the program and then the program's own argv; the environment is the program's.
#
#   rbx  the entry      r12  the stack as the kernel made it      r13  the errno

        .pushsection .rodata.stockade_stub, "a", @progbits
        .globl stockade_stub_begin
        .globl stockade_stub_end
stockade_stub_begin:
        mov     r12, rsp
        mov     ebx, {table}
1:      mov     rax, [rbx]
        cmp     rax, -1
        je      4f
        mov     rdi, [rbx + 8]
        mov     rsi, [rbx + 16]
        mov     rdx, [rbx + 24]
        mov     r10, [rbx + 32]
        mov     r8, [rbx + 40]
        mov     r9, [rbx + 48]
        syscall
        cmp     rax, -{eintr}
        je      1b
        test    rax, rax
        js      2f
        mov     rcx, [rbx + 56]
        cmp     rcx, -1
        je      3f
        cmp     rax, rcx
        je      3f
        jmp     9f                      # the other end is gone, or said what was not due
2:      cmp     qword ptr [rbx + 64], 0
        jne     5f
3:      add     rbx, 72
        jmp     1b

# execve(argv[0], &argv[1], the environment, which follows the null of argv)
4:      mov     rcx, [r12]
        mov     rdi, [r12 + 8]
        lea     rsi, [r12 + 16]
        lea     rdx, [r12 + rcx * 8 + 16]
        mov     eax, {execve}
        syscall

# The errno goes into the message as four digits, blanks in front.
5:      mov     rbp, [rbx + 64]
        neg     rax
        mov     r13, rax
        mov     rdi, [rbp + 16]
        mov     ecx, 3
        mov     esi, 10
6:      xor     edx, edx
        div     rsi
        add     edx, '0'
        mov     [rdi + rcx], dl
7:      dec     rcx
        js      8f
        test    rax, rax
        jne     6b
        mov     byte ptr [rdi + rcx], ' '
        jmp     7b
8:      mov     eax, {head}
        mov     rdi, [rax]
        mov     rsi, [rbp]
        mov     rdx, [rbp + 8]
        mov     eax, {write}
        syscall
        mov     edi, 126
        cmp     r13, {enoent}
        jne     10f
        inc     edi
        jmp     10f
9:      mov     edi, 1
10:     mov     eax, {exit_group}
        syscall
        ud2
stockade_stub_end:
        .popsection
