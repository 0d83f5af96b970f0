/**
 * Why a call was answered where it was: the model and the server that were chosen, the others that could have been, and
 * those that were left out, each with its reason.
 *
 * A result has one (`result.decision`), and so has each `meta` event of a stream about an attempt. Its lists
 * are made when they are read: a call whose decision is not read pays nothing for it.
 *
 * @since 0.2.0
 */

/**
 * A model on a server.
 *
 * @since 0.2.0
 * @category models
 */
export interface Pair {
  /** The name of the model. */
  readonly model: string
  /** The address of the server. */
  readonly server: string
}

/**
 * A model on a server that could answer, in words what speaks for it.
 *
 * @since 0.2.0
 * @category models
 */
export interface Candidate extends Pair {
  /** What its place depends on, such as `loaded already` or `has to be loaded`; empty where nothing is known. */
  readonly reason: string
}

/**
 * A model on a server that was not asked, and why.
 *
 * @since 0.2.0
 * @category models
 */
export interface Excluded extends Pair {
  /** Why it was not asked. */
  readonly reason: string
}

/**
 * What is known of this machine and of the lines to remote servers when a model is chosen, as `Conditions` has it:
 * nothing where the servers are all local or all remote, and before the first reading.
 *
 * @since 0.2.0
 * @category models
 */
export interface Conditions {
  /** This machine; `undefined` where it was not read. */
  readonly resources:
    | {
        /** How much of it is left. */
        readonly state: "AVAILABLE" | "CONSTRAINED" | "CRITICAL"
        /** Why, in words; empty where it is `AVAILABLE`. */
        readonly reason: string
      }
    | undefined
  /** The lines to remote servers that were checked. */
  readonly lines: ReadonlyArray<{
    /** The server's address. */
    readonly server: string
    /** How good the line is. */
    readonly state: "OPTIMAL" | "DEGRADED" | "DISCONNECTED"
    /** Why, in words; empty where it is `OPTIMAL`. */
    readonly reason: string
  }>
}

/**
 * Why a call was answered where it was. `JSON.stringify` gives all of it.
 *
 * @since 0.2.0
 * @category models
 */
export interface Decision {
  /** The name that the caller gave: a model, an alias, `provider:model` or `auto`. */
  readonly asked: string
  /** The model and the server that are asked, or have answered. */
  readonly chosen: Pair
  /** Why these, in words that name no server. */
  readonly reason: string
  /** What could answer, in the order in which it is asked: for `auto` and aliases over all their models. */
  readonly candidates: ReadonlyArray<Candidate>
  /** What was left out before anything was sent. What failed when it was asked is in `attempts`. */
  readonly excluded: ReadonlyArray<Excluded>
  /** The conditions that were taken into account. */
  readonly conditions: Conditions
}

/**
 * Conditions of which nothing is known, or which do not matter.
 *
 * @since 0.2.0
 * @category constants
 */
export const unknown: Conditions = { resources: undefined, lines: [] }

/**
 * A decision without a choice: one model, on one server.
 *
 * @since 0.2.0
 * @category constructors
 */
export const single = (asked: string, chosen: Pair, reason: string): Decision => ({
  asked,
  chosen,
  reason,
  candidates: [],
  excluded: [],
  conditions: unknown
})
