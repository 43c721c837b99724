//! The few pieces of DER that no library hands out: raw algorithm identifiers, and keys that nobody can use.
//!
//! `bytes ──▶ tag, content, rest`
//!
//! Definite lengths only (X.690 section 10.1). Nothing here allocates or recurses, so hostile bytes cost nothing.

/// SEQUENCE, constructed.
pub(super) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;

/// One element at the front of some bytes.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
    pub(super) rest: &'a [u8],
}

/// The element at the front; `None` if it is cut short or has a form that DER does not allow.
pub(super) fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, after_tag) = bytes.split_first()?;
    let (&first, mut after_length) = after_tag.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || after_length.len() < count {
            return None;
        }
        let (digits, rest) = after_length.split_at(count);
        length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
        after_length = rest;
    }
    if after_length.len() < length {
        return None;
    }
    let (content, rest) = after_length.split_at(length);
    Some(Element { tag, content, whole: &bytes[..bytes.len() - rest.len()], rest })
}

/// The element at the front, if it has this tag.
pub(super) fn expect(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    element(bytes).filter(|element| element.tag == tag)
}

/// All elements of some content, in order; `None` if something among them is none.
pub(super) fn members(content: &[u8]) -> Option<Vec<Element<'_>>> {
    let (mut found, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let next = element(rest)?;
        rest = next.rest;
        found.push(next);
    }
    Some(found)
}

/// Bits of a positive INTEGER's content.
pub(super) fn bit_length(integer: &[u8]) -> usize {
    let first = integer.iter().position(|byte| *byte != 0).unwrap_or(integer.len());
    let digits = &integer[first..];
    digits.first().map_or(0, |top| digits.len() * 8 - top.leading_zeros() as usize)
}

/// Algorithm identifier (the SEQUENCE's content) and key bits of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
pub(super) fn public_key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let outer = expect(spki, SEQUENCE)?;
    let algorithm = expect(outer.content, SEQUENCE)?;
    let key = expect(algorithm.rest, BIT_STRING)?;
    // The first byte counts unused bits; keys have none.
    Some((algorithm.content, key.content.strip_prefix(&[0])?))
}

/// Signed part, algorithm identifier (the SEQUENCE's content) and signature of a certificate (RFC 5280 section 4.1).
pub(super) fn signed(certificate: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let outer = expect(certificate, SEQUENCE)?;
    let body = expect(outer.content, SEQUENCE)?;
    let algorithm = expect(body.rest, SEQUENCE)?;
    let signature = expect(algorithm.rest, BIT_STRING)?;
    Some((body.whole, algorithm.content, signature.content.strip_prefix(&[0])?))
}

/// Modulus bits of an RSA key in a SubjectPublicKeyInfo; `None` if it holds another kind.
pub(super) fn rsa_bits(spki: &[u8]) -> Option<usize> {
    let (algorithm, key) = public_key(spki)?;
    let oid = expect(algorithm, OID)?;
    if oid.content != RSA_ENCRYPTION && oid.content != RSA_PSS {
        return None;
    }
    Some(bit_length(expect(expect(key, SEQUENCE)?.content, INTEGER)?.content))
}

/// Wraps content in a SEQUENCE: what trust anchors are stored without.
pub(super) fn sequence(content: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![SEQUENCE];
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => wrapped.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let digits = &digits[digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len() - 1)..];
            // A length has at most eight digits.
            wrapped.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            wrapped.extend_from_slice(digits);
        }
    }
    wrapped.extend_from_slice(content);
    wrapped
}

/// 1.2.840.113549.1.1.1.
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.113549.1.1.10.
pub(super) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Dotted form of an object identifier's content.
pub(super) fn dotted(oid: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number: u64 = 0;
    for byte in oid {
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - first * 40]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_cut_ones_are_not() {
        let bytes = [SEQUENCE, 3, INTEGER, 1, 5, 0xff];
        let outer = element(&bytes).unwrap();
        assert_eq!((outer.tag, outer.whole.len(), outer.rest), (SEQUENCE, 5, &[0xff][..]));
        assert_eq!(expect(outer.content, INTEGER).unwrap().content, [5]);
        for end in 0..5 {
            assert!(element(&bytes[..end]).is_none(), "{end}");
        }
        assert!(element(&[SEQUENCE, 0x80, 0, 0]).is_none(), "indefinite length");
        let tags: Vec<u8> = members(outer.content).unwrap().iter().map(|member| member.tag).collect();
        assert!(tags == [INTEGER] && members(&[]).unwrap().is_empty() && members(&[INTEGER, 9]).is_none());
        assert!(element(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]).is_none());
    }

    #[test]
    fn what_is_wrapped_is_read_again() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let wrapped = sequence(&content);
            assert_eq!(expect(&wrapped, SEQUENCE).unwrap().content, content);
        }
    }

    #[test]
    fn bits_and_dots() {
        assert_eq!(bit_length(&[0, 0x80, 0]), 16);
        assert_eq!(bit_length(&[1, 0]), 9);
        assert_eq!(bit_length(&[0]), 0);
        assert_eq!(dotted(RSA_ENCRYPTION), "1.2.840.113549.1.1.1");
        assert_eq!(dotted(&[0x67, 0x81, 0x0c, 0x01, 0x02, 0x01]), "2.23.140.1.2.1");
    }
}
