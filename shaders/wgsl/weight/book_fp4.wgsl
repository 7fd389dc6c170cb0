// 0, 1, 2, 3, 4, 6, 8, 12, then the same negated: twice the floats of 4 bits.
const BOOK = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
