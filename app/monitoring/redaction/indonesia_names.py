"""Indonesian names of private fields, beside those that the pack of Indonesia declares itself."""

from .packs import phrases

NUMBER_KEYS = phrases(
    """no rek, no ktp, no nik, no npwp, nomor npwp, no identitas, nomor identitas, no visa, nomor visa, no kitas, nomor
    kitas, kitas, no kitap, nomor kitap, kitap, no sim, nomor sim, no bpjs, nomor bpjs, bpjs, no tlp, no telepon, no
    telpon, nomor telp, nomor telpon, no handphone, nomor handphone, no ponsel, nomor ponsel, nomor whatsapp, no
    whatsapp, no kartu, nomor kartu kredit, nomor rek, kode keamanan"""
)
WORD_KEYS = phrases(
    """kode otp, kode pin, kode verifikasi, kode pemulihan, kode akses, kode rahasia, kunci rahasia, kunci api, kunci
    privat"""
)
PHRASE_KEYS = phrases(
    """nama depan, nama tengah, nama belakang, nama keluarga, nama panggilan, nama ayah, nama ibu kandung, nama gadis,
    nama tamu, nama pemesan, nama penumpang, nama pelanggan, nama pasien, nama karyawan, nama penerima, nama pengirim,
    nama pemilik, nama pemilik rekening, nama pemegang kartu, pemegang kartu, pemilik rekening, atas nama, tempat
    lahir, tempat tanggal lahir, jawaban keamanan, jawaban rahasia, pertanyaan keamanan, pertanyaan rahasia, kontak
    darurat"""
)
