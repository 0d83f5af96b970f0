/**
 * Estimates how long parsing JSON would block the event loop. That depends on the number of values far more than on
 * bytes: 30 MB of text take 50 ms, 30 MB of `{}` take eight seconds.
 */

/** The maximum cost of one body: a number or string costs one, a property four, an array or object eight. */
export const maxCost = 500_000

/** A body of at most this size never exceeds it. */
export const freeBytes = maxCost / 8

const quote = 0x22
const backslash = 0x5c

/** Counts the values of a body as it arrives. It need not be JSON. */
export class CostMeter {
  cost = 0
  private inText = false
  private escaped = false

  /** Adds the next bytes; true if the cost now exceeds `maxCost`. */
  add(bytes: Uint8Array): boolean {
    const { length } = bytes
    if (length === 0) return false
    let { cost } = this
    let at = 0
    if (this.escaped) {
      this.escaped = false
      at = 1
    }
    if (this.inText && at < length) at = this.afterText(bytes, at)
    for (; at < length; at++) {
      switch (bytes[at]) {
        case quote:
          at = this.afterText(bytes, at + 1) - 1
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
          if (cost > maxCost) {
            this.cost = cost
            return true
          }
      }
    }
    this.cost = cost
    return cost > maxCost
  }

  /** The position after the string that contains `start`. Long strings rarely contain escapes, so `indexOf` is tried first. */
  private afterText(bytes: Uint8Array, start: number): number {
    const { length } = bytes
    let at = start
    const near = Math.min(length, start + 256)
    while (at < near && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1
    if (at < length && bytes[at] !== quote) {
      const next = bytes.indexOf(quote, at)
      const end = next === -1 ? length : next
      const escape = bytes.subarray(at, end).indexOf(backslash)
      if (escape === -1) at = end
      else for (at += escape; at < length && bytes[at] !== quote; ) at += bytes[at] === backslash ? 2 : 1
    }
    this.inText = at >= length
    this.escaped = at > length
    return at + 1
  }
}
