# The Arm guest of these tests, a kernel without a disk: it counts in memory, and prints the count as the other one does. The bytes in
# arm.rs are made of this by
#     aarch64-linux-gnu-as arm.s -o arm.o && aarch64-linux-gnu-objcopy -O binary arm.o arm.bin
        .set uart, 0x09000000           // PL011 of QEMU's board
        .set count, 0x40200000
_start: mov x1, uart
        mov x20, count
        mov w0, 'B'                     // it boots
        str w0, [x1]
        mov w0, '\n'
        str w0, [x1]
        str wzr, [x20]
next:   ldr w19, [x20]
        add w19, w19, 1
        str w19, [x20]
        mov w3, 8                       // hexadecimal digits
digit:  ror w19, w19, 28
        and w0, w19, 15
        cmp w0, 10
        add w0, w0, '0'
        blt put
        add w0, w0, 'a' - '0' - 10
put:    str w0, [x1]
        subs w3, w3, 1
        bne digit
        mov w0, '\n'
        str w0, [x1]
        mov x2, 0x400000                // some ten milliseconds
wait:   subs x2, x2, 1
        bne wait
        b next
