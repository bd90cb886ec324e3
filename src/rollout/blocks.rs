/// Hands out KV blocks and counts who still reads them.
#[derive(Debug)]
pub(super) struct BlockPool {
    free: Vec<u32>,
    readers: Vec<u32>,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        Self { free: (0..blocks as u32).rev().collect(), readers: vec![0; blocks] }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// A block with one reader. The caller has made sure that one is free.
    pub(super) fn take(&mut self) -> u32 {
        let block = self.free.pop().expect("admission reserved every block that a sequence can need");
        self.readers[block as usize] = 1;
        block
    }

    pub(super) fn share(&mut self, block: u32) -> u32 {
        self.readers[block as usize] += 1;
        block
    }

    pub(super) fn give_back(&mut self, block: u32) {
        let readers = &mut self.readers[block as usize];
        *readers = readers.checked_sub(1).expect("a block is given back once for each reader");
        if *readers == 0 {
            self.free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_block_is_free_when_its_last_reader_leaves() {
        let mut pool = BlockPool::new(2);
        let block = pool.take();
        pool.share(block);
        pool.give_back(block);
        assert_eq!(pool.free(), 1);
        pool.give_back(block);
        assert_eq!(pool.free(), 2);
    }
}
