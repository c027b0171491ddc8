// The functions that g++ calls at every load and store of a translation unit compiled with -fsanitize=thread. The real
// library behind that flag is not linked: these are its calls, answered by the emulator, and outside a kernel they do
// nothing. Names and meaning: gcc/sanitizer.def.
#include <cstddef>

#include "kernel.hpp"

using tokenworks::emulator::check_read;
using tokenworks::emulator::check_write;

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read1(void* a) { check_read(a, 1); }
void __tsan_read2(void* a) { check_read(a, 2); }
void __tsan_read4(void* a) { check_read(a, 4); }
void __tsan_read8(void* a) { check_read(a, 8); }
void __tsan_read16(void* a) { check_read(a, 16); }
void __tsan_write1(void* a) { check_write(a, 1); }
void __tsan_write2(void* a) { check_write(a, 2); }
void __tsan_write4(void* a) { check_write(a, 4); }
void __tsan_write8(void* a) { check_write(a, 8); }
void __tsan_write16(void* a) { check_write(a, 16); }
void __tsan_unaligned_read2(void* a) { check_read(a, 2); }
void __tsan_unaligned_read4(void* a) { check_read(a, 4); }
void __tsan_unaligned_read8(void* a) { check_read(a, 8); }
void __tsan_unaligned_read16(void* a) { check_read(a, 16); }
void __tsan_unaligned_write2(void* a) { check_write(a, 2); }
void __tsan_unaligned_write4(void* a) { check_write(a, 4); }
void __tsan_unaligned_write8(void* a) { check_write(a, 8); }
void __tsan_unaligned_write16(void* a) { check_write(a, 16); }
void __tsan_read_range(void* a, std::size_t n) { check_read(a, n); }
void __tsan_write_range(void* a, std::size_t n) { check_write(a, n); }
void __tsan_volatile_read4(void* a) { check_read(a, 4); }
void __tsan_volatile_write4(void* a) { check_write(a, 4); }
}
