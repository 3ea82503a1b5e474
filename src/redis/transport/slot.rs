//! The slot of a key.

/// The CRC-16 of XMODEM (polynomial 0x1021, no reflection), one entry per byte.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Returns the slot (0..16384) of a key by the cluster specification. It hashes the first `{tag}` that is not empty, or
/// the whole key.
///
/// The redis crate has this function only with its cluster feature. Without that feature, a connection that the user
/// opened can still belong to a cluster.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let crc = hashed(key).iter().fold(0u16, |crc, &byte| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]);
    crc % 16384
}

fn hashed(key: &[u8]) -> &[u8] {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&byte| byte == b'}').map(|close| &rest[..close])
    });
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::slot;

    #[test]
    fn slots_follow_the_specification() {
        // "123456789" is the check value of the specification; a server computed the others (CLUSTER KEYSLOT).
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b""), 0);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"bar"), 5061);
        assert_eq!(slot(b"a{foo}b{bar}"), 12182);
        assert_eq!(slot(b"{}foo"), 9500);
        assert_eq!(slot(b"{foo"), 13308);
        assert_eq!(slot(b"foo{{bar}}zap"), 4015);
    }
}
