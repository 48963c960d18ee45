// Exponential backoff with full jitter: anything between nothing and the ceiling, so that clients which lost the
// same server do not come back as one. `random` is in [0, 1).

export function backoff(failures: number, base: number, cap: number, random: number): number {
  return Math.min(cap, base * 2 ** Math.min(failures, 20)) * random;
}
