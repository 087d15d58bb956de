//! Room for texts that come in pieces and may be tens of megabytes long.

/// A buffer grows by doubling up to here.
const DOUBLED: usize = 1024 * 1024;

/// Makes room in a buffer for `more` bytes. It will hold `most` bytes at most.
///
/// A long buffer gets the place for all of it at once. Memory that is not written to costs nothing,
/// but to grow step by step would copy it, and hold it twice meanwhile.
pub fn make_room(buffer: &mut Vec<u8>, more: usize, most: usize) {
    if buffer.capacity() - buffer.len() >= more {
        return;
    }
    let left = most.saturating_sub(buffer.len());
    // A system that gives no memory before it is used lets this fail.
    if buffer.len() >= DOUBLED && buffer.try_reserve_exact(left.max(more)).is_ok() {
        return;
    }
    buffer.reserve_exact(buffer.len().min(left).max(more));
}

/// Bytes on the heap of a buffer that grows by [`make_room`].
pub fn heap_bytes(buffer: &Vec<u8>) -> usize {
    buffer.capacity().min(buffer.len().max(2 * DOUBLED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_buffer_is_placed_once() {
        let most = 8 * DOUBLED;
        let mut buffer = Vec::new();
        let (mut places, mut place) = (0, std::ptr::null());
        while buffer.len() < most {
            make_room(&mut buffer, 1000, most);
            buffer.extend_from_slice(&[1; 1000][..1000.min(most - buffer.len())]);
            places += usize::from(buffer.as_ptr() != place);
            place = buffer.as_ptr();
            let taken = heap_bytes(&buffer);
            assert!((buffer.len()..=(2 * buffer.len()).max(2 * DOUBLED)).contains(&taken));
        }
        assert!(places < 15, "{places}");
        assert!(buffer.capacity() <= most + 1000);
    }

    #[test]
    fn a_buffer_is_no_longer_than_it_needs_to_be() {
        let mut buffer = vec![0; 10];
        make_room(&mut buffer, 5, 100);
        assert!((15..=32).contains(&buffer.capacity()));
        make_room(&mut buffer, 200, 100);
        assert!(buffer.capacity() >= 210);
    }
}
