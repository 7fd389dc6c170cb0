// One row of the step.
struct Token {
    id: u32,
    position: u32,
    sequence: u32,  // row of the page table
    cell: u32,      // where its keys and values go in the KV pool
    @size(16) adapters: u32,  // the number of its set, where rows have different ones
}

// Set in an id that is the number of a slot.
const FROM_SLOT = 0x80000000u;
