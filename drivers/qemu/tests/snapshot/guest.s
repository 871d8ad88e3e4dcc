# The guest of these tests, one boot sector. It counts in memory, and the count N is written to sector N of the disk before
# it is printed: what is printed is acknowledged. The bytes in ground.rs are made of this by
#     as --32 guest.s -o guest.o && ld -m elf_i386 -Ttext 0x7c00 --oformat binary guest.o -o guest.bin
        .code16
        .globl _start
        .set count, 0x8000
        .set drive, 0x8004
        .set last, 0x8008
        .set sector, 0x9000             # what is read or written
_start: xor %ax, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov $0x7000, %sp
        mov %dl, drive
        mov $'B', %al                   # it boots, with all devices new
        call line
        movl $0, count
find:   incl count                      # the first sector without its number has not been written
        call read
        je find
        decl count
next:   mov count, %eax                 # memory and disk have to be of the same moment: the last sector,
        mov %eax, last
        test %eax, %eax
        jz write
        test $15, %al                   # and now and then all
        jnz check
        movl $1, count
check:  call read
        je same
        mov $'X', %al
        call line
same:   incl count
        mov count, %eax
        cmp %eax, last
        jae check
        mov last, %eax
        mov %eax, count
write:  incl count
        mov count, %eax
        mov %eax, sector
        mov $0x43, %ah
        call disk
        jnc print
        mov $'E', %al                   # not written
        call line
        decl count
        jmp wait
print:  mov count, %ebx
        mov $8, %cx
digit:  rol $4, %ebx
        mov %bl, %al
        and $15, %al
        add $'0', %al
        cmp $'9', %al
        jbe 1f
        add $39, %al
1:      call put
        loop digit
        mov $'\n', %al
        call put
wait:   sti
        hlt
        jmp next

read:   mov $0x42, %ah                  # sets "equal" if the sector holds its number
        call disk
        mov count, %eax
        cmp %eax, sector
        ret
disk:   mov count, %ebx
        mov %ebx, packet + 8
        mov $packet, %si
        mov drive, %dl
        mov $0, %al
        int $0x13
        ret

line:   call put
        mov $'\n', %al
put:    push %ax
        mov $0x3fd, %dx
2:      in %dx, %al
        test $0x20, %al
        jz 2b
        pop %ax
        mov $0x3f8, %dx
        out %al, %dx
        ret

packet: .byte 16, 0
        .word 1, sector, 0
        .quad 0
