/** The situations that are simulated, as data. */

/**
 * - `load`: what is asked, as a share of what a perfectly used fleet could do
 * - `memory`: of the machines, as a factor; the less, the more models push each other out
 * - `placement`: how likely a model that fits lies on a server's disk
 * - `warm`: the memory is full of models when the run begins
 * - `drift`: halfway through, the popular models change
 * - `bursts`: for `length` out of every `every` seconds `times` as much traffic
 * - `turns`: questions are turns of conversations, so many on average
 * - `hung`, `broken`, `flapping`: shares of the servers that accept and never answer, that answer 500 at once, that
 *   go and come back
 * - `clients`: gateways that do not know of each other's requests
 */
export interface Scenario {
  readonly name: string
  readonly about: string
  readonly load: number
  /** The one model that is asked for and stored. */
  readonly only: number | undefined
  /** Requests at once per loaded model, on every machine; else 1, 2 or 4 by its size. */
  readonly parallel: number | undefined
  readonly memory: number
  readonly placement: number
  readonly warm: boolean
  readonly drift: boolean
  readonly bursts: { readonly every: number; readonly length: number; readonly times: number } | undefined
  readonly turns: number | undefined
  readonly hung: number
  readonly broken: number
  readonly flapping: number
  readonly clients: number
}

const steady: Scenario = {
  name: "steady",
  about: "healthy servers, half busy, memory full of models",
  load: 0.5,
  only: undefined,
  parallel: undefined,
  memory: 1,
  placement: 0.7,
  warm: true,
  drift: false,
  bursts: undefined,
  turns: undefined,
  hung: 0,
  broken: 0,
  flapping: 0,
  clients: 1
}

export const scenarios: ReadonlyArray<Scenario> = [
  steady,
  { ...steady, name: "busy", about: "the same with nine tenths of the traffic that the fleet can bear", load: 0.8 },
  {
    ...steady,
    name: "uniform",
    about: "one model, in the memory of every server: nothing but unequal speeds",
    only: 1,
    placement: 1,
    load: 0.6
  },
  {
    ...steady,
    name: "bursts",
    about: "10 s of five times the traffic in every minute",
    load: 0.4,
    bursts: { every: 60, length: 10, times: 5 }
  },
  { ...steady, name: "one-slot", about: "servers that answer one request at a time", parallel: 1 },
  { ...steady, name: "hung", about: "2 % of the servers accept and never answer", hung: 0.02 },
  { ...steady, name: "error", about: "5 % of the servers answer 500 at once", broken: 0.05 },
  { ...steady, name: "flapping", about: "10 % of the servers go for 20 s in every 80 s", flapping: 0.1 },
  {
    ...steady,
    name: "cold",
    about: "nothing loaded, little memory, and the popular models change halfway",
    load: 0.35,
    memory: 0.75,
    warm: false,
    drift: true
  },
  { ...steady, name: "sessions", about: "conversations of 6 turns whose prompts grow", turns: 6 },
  { ...steady, name: "replicas", about: "the traffic comes from 4 gateways that do not see each other", clients: 4 },
  {
    ...steady,
    name: "everything",
    about: "bursts of conversations, and hung, broken and flapping servers",
    load: 0.4,
    bursts: { every: 60, length: 10, times: 4 },
    turns: 4,
    hung: 0.02,
    broken: 0.05,
    flapping: 0.05
  }
]
