use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;

use tidemark_connectors::storage::Disk;

use super::*;

fn directory() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    let state = StateDir::new(dir.path(), Uuid::from_u128(7), Arc::new(Disk));
    (dir, state)
}

fn written(dir: &StateDir) -> StateFile {
    let mut writer = StateFileWriter::create(dir, 1, 2).unwrap();
    writer.section(3, 0, b"first").unwrap();
    writer.section(3, 1, b"").unwrap();
    writer.section(3, 0, b"second").unwrap();
    writer.finish(FileKind::Delta, 4, 5).unwrap()
}

fn read_all(dir: &StateDir, file: &StateFile) -> Result<Vec<(u32, u32, Vec<u8>)>> {
    let reader = StateFileReader::open(dir, file)?;
    let sections = reader.sections().iter();
    sections
        .map(|s| {
            let mut bytes = vec![];
            reader.read(s)?.read_to_end(&mut bytes).unwrap();
            Ok((s.operator, s.trace, bytes))
        })
        .collect()
}

#[test]
fn sections_come_back_in_order() {
    let (_guard, dir) = directory();
    let file = written(&dir);
    let (name, process) = file.name.rsplit_once('-').unwrap();
    assert_eq!(
        (name, process.len()),
        ("delta-0000000004-0000000005-w1of2", 8)
    );
    assert_eq!(
        file.bytes,
        fs::metadata(dir.path().join(&file.name)).unwrap().len()
    );
    assert_eq!(
        read_all(&dir, &file).unwrap(),
        [
            (3, 0, b"first".to_vec()),
            (3, 1, b"".to_vec()),
            (3, 0, b"second".to_vec()),
        ]
    );
    assert_eq!(dir.list().unwrap().len(), 1, "no temporary file is left");
}

#[test]
fn a_file_without_sections_is_a_file() {
    let (_guard, dir) = directory();
    let writer = StateFileWriter::create(&dir, 0, 1).unwrap();
    let file = writer.finish(FileKind::Snapshot, 9, 9).unwrap();
    assert_eq!((file.first, file.last), (0, 9));
    assert!(read_all(&dir, &file).unwrap().is_empty());
}

#[test]
fn large_and_small_sections_mix() {
    let (_guard, dir) = directory();
    let large: Vec<u8> = (0..BUFFER + 17).map(|i| (i % 251) as u8).collect();
    let mut writer = StateFileWriter::create(&dir, 0, 1).unwrap();
    for operator in 0..3 {
        writer.section(operator, 0, b"small").unwrap();
        writer.section(operator, 1, &large).unwrap();
        writer.section(operator, 2, &large[..BUFFER]).unwrap();
    }
    let file = writer.finish(FileKind::Delta, 0, 0).unwrap();
    for (_, trace, bytes) in read_all(&dir, &file).unwrap() {
        let expected = [&b"small"[..], &large[..], &large[..BUFFER]][trace as usize];
        assert!(bytes == expected);
    }
}

#[test]
fn a_section_may_come_bit_by_bit_and_its_head_last() {
    let (_guard, dir) = directory();
    let bytes: Vec<u8> = (0..3 * BUFFER + 17).map(|i| (i % 253) as u8).collect();
    for length in [0, 9, BUFFER - 40, bytes.len()] {
        let mut writer = StateFileWriter::create(&dir, 0, 1).unwrap();
        writer.section(0, 0, b"before").unwrap();
        let mut section = writer.stream(1, 0);
        section.leave(4).unwrap();
        for part in bytes[..length].chunks(1000) {
            section.write_all(part).unwrap();
        }
        section.end(b"head").unwrap();
        writer.section(2, 0, b"after").unwrap();
        let file = writer.finish(FileKind::Delta, 0, 0).unwrap();
        let sections = read_all(&dir, &file).unwrap();
        assert!(sections[1].2 == [b"head", &bytes[..length]].concat());
        assert_eq!(
            (&sections[0].2[..], &sections[2].2[..]),
            (&b"before"[..], &b"after"[..])
        );
    }
}

#[test]
fn any_flipped_bit_is_an_error_that_names_the_file() {
    let (_guard, dir) = directory();
    let file = written(&dir);
    let path = dir.path().join(&file.name);
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        let error = read_all(&dir, &file).expect_err("a flipped bit is noticed");
        assert!(error.to_string().contains(&file.name), "bit {bit}: {error}");
    }
}

#[test]
fn any_truncation_and_any_growth_is_an_error() {
    let (_guard, dir) = directory();
    let file = written(&dir);
    let path = dir.path().join(&file.name);
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(
            matches!(
                read_all(&dir, &file),
                Err(CheckpointError::DamagedFile { .. })
            ),
            "{length} bytes"
        );
        // A manifest that was damaged with the file must not make it right.
        let shorter = StateFile {
            bytes: length as u64,
            ..file.clone()
        };
        assert!(read_all(&dir, &shorter).is_err(), "{length} bytes");
    }
    fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert!(read_all(&dir, &file).is_err());
}

#[test]
fn a_whole_file_in_the_place_of_another_is_an_error() {
    let (_guard, dir) = directory();
    let file = written(&dir);
    let mut writer = StateFileWriter::create(&dir, 1, 2).unwrap();
    writer.section(3, 0, b"first").unwrap();
    writer.section(3, 1, b"").unwrap();
    writer.section(3, 0, b"secone").unwrap();
    let other = writer.finish(FileKind::Delta, 5, 5).unwrap();
    assert_eq!(file.bytes, other.bytes);
    fs::copy(dir.path().join(&other.name), dir.path().join(&file.name)).unwrap();
    assert!(matches!(
        read_all(&dir, &file),
        Err(CheckpointError::DamagedFile { .. })
    ));
    let checkpoint = dir.path().parent().unwrap();
    let foreign = StateDir::new(checkpoint, Uuid::from_u128(8), Arc::new(Disk));
    let error = read_all(&foreign, &other).unwrap_err();
    assert!(error.to_string().contains("another query"), "{error}");
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let (_guard, dir) = directory();
    let mut file = written(&dir);
    let path = dir.path().join(&file.name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let index = bytes.len() - TRAILER - 3 * ENTRY;
    let crc_at = bytes.len() - TRAILER + TRAILER_CRC;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER]), &bytes[index..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    file.crc = crc;
    let error = read_all(&dir, &file).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn a_file_that_is_given_up_leaves_nothing() {
    let (_guard, dir) = directory();
    let mut writer = StateFileWriter::create(&dir, 0, 1).unwrap();
    writer.section(0, 0, b"x").unwrap();
    drop(writer);
    assert!(dir.list().unwrap().is_empty());
}
