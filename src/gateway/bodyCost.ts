/**
 * How long reading JSON would hold up everybody else. That depends on how many values there are much more than on how
 * many bytes: 30 MB of text take 50 ms, 30 MB of `{}` take eight seconds.
 *
 * @since 0.1.0
 */

/**
 * How much JSON may be in one body: a number or a string is one, a property four, an array or an object eight.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxCost = 500_000

/** Shorter bodies are never over it. */
const free = maxCost / 8

/** Where the quote is that ends a text. Long ones are mostly of one piece, which is found faster. */
const endOfText = (bytes: Uint8Array, start: number): number => {
  const { length } = bytes
  let at = start
  for (const near = Math.min(length, start + 256); at < near && bytes[at] !== 0x22; at++) if (bytes[at] === 0x5c) at++
  if (bytes[at] === 0x22 || at >= length) return at
  const next = bytes.indexOf(0x22, at)
  if (next === -1) return length
  const escape = bytes.subarray(at, next).indexOf(0x5c)
  if (escape === -1) return next
  for (at += escape; at < length && bytes[at] !== 0x22; at++) if (bytes[at] === 0x5c) at++
  return at
}

/**
 * Whether a body holds more than `maxCost`. It need not be JSON.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTooCostly = (bytes: Uint8Array): boolean => {
  const { length } = bytes
  if (length <= free) return false
  let cost = 0
  for (let at = 0; at < length; at++) {
    switch (bytes[at]) {
      case 0x22: // "
        at = endOfText(bytes, at + 1)
        break
      case 0x2c: // ,
        cost += 1
        break
      case 0x3a: // :
        cost += 3
        break
      case 0x5b: // [
      case 0x7b: // {
        cost += 8
        if (cost > maxCost) return true
    }
  }
  return cost > maxCost
}
