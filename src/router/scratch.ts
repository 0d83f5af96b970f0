/** Scratch arrays for one decision. A decision is synchronous, so they are shared. */

let values = new Float64Array(256)
let indices = new Int32Array(256)

export const scratchValues = (size: number): Float64Array => {
  if (values.length < size) values = new Float64Array(size * 2)
  return values
}

export const scratchIndices = (size: number): Int32Array => {
  if (indices.length < size) indices = new Int32Array(size * 2)
  return indices
}
