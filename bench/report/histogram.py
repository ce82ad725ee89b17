"""Reads the latency histograms that bench/harness.h encodes: "bucket*count,...", 16 buckets per octave of ns."""

SUB_BITS = 4
SUB = 1 << SUB_BITS


def lower_bound(bucket):
    """The smallest number of nanoseconds that falls into `bucket`; LatencyHistogram::LowerBound."""
    if bucket < SUB:
        return bucket
    octave = (bucket >> SUB_BITS) + SUB_BITS - 1
    return (1 << octave) + ((bucket & (SUB - 1)) << (octave - SUB_BITS))


def decode(label):
    """{"gap": {bucket: count}} from a benchmark's label; {} when it carries none."""
    histograms = {}
    for part in (label or "").split(";"):
        name, equals, body = part.partition("=")
        if not equals:
            continue
        buckets = {}
        for item in filter(None, body.split(",")):
            bucket, _, count = item.partition("*")
            buckets[int(bucket)] = buckets.get(int(bucket), 0) + int(count)
        histograms[name] = buckets
    return histograms


def merge(histograms):
    merged = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            merged[bucket] = merged.get(bucket, 0) + count
    return merged


def quantile(histogram, share):
    """Nanoseconds below which `share` of the samples lies, interpolated within the bucket; None without samples."""
    total = sum(histogram.values())
    if not total:
        return None
    rank, below = share * total, 0
    for bucket in sorted(histogram):
        here = histogram[bucket]
        if below + here >= rank:
            low, high = lower_bound(bucket), lower_bound(bucket + 1)
            return low + (high - low) * max(0.0, rank - below) / here
        below += here
    return lower_bound(max(histogram) + 1)


def slower_than(histogram):
    """[(ns, share of the samples that took longer)], for plotting the tail."""
    total = sum(histogram.values())
    points, below = [], 0
    for bucket in sorted(histogram):
        points.append((max(1, lower_bound(bucket)), (total - below) / total))
        below += histogram[bucket]
        points.append((max(1, lower_bound(bucket + 1)), (total - below) / total))
    return points
