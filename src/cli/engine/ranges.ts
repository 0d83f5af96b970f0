/** The ranges of the numbers that `aicortex engine` takes, by flag. */
export const ranges = {
  ctx: [0, 16_777_216],
  ngl: [-1, 100_000],
  threads: [-1, 1024],
  parallel: [1, 256],
  temp: [0, 2],
  "max-tokens": [0, 16_777_216]
} as const

export const portRange = [0, 65_535] as const
