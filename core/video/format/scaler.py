"""Settings of FFmpeg's scaler, the same for every conversion."""

# Without these flags, saturated colors are off by 3/255 and chroma is repeated instead of interpolated.
SWS_FLAGS = 0x4 | 0x40000 | 0x2000  # SWS_BICUBIC, ACCURATE_RND, FULL_CHR_H_INT; PyAV 17 names only the first
# A conversion takes milliseconds and stages run concurrently, so more threads would cost time and memory overall.
REFORMAT_THREADS = 1
