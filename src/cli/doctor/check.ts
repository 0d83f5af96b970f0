/** What a check found. */

/** `warning`: it works, but not as it may be meant. */
export type Status = "ok" | "warning" | "wrong"

/** One thing that was checked: what about it, how it is, and what to do. */
export interface Check {
  /** What was checked, for programs. */
  readonly check: "server" | "models" | "answer" | "setting" | "variable" | "port" | "registry"
  /** A server's address, or the name of a setting or variable. */
  readonly subject: string
  readonly status: Status
  readonly message: string
  readonly advice: string | null
}

export const ok = (check: Check["check"], subject: string, message: string): Check => ({
  check,
  subject,
  status: "ok",
  message,
  advice: null
})

export const warning = (check: Check["check"], subject: string, message: string, advice: string): Check => ({
  check,
  subject,
  status: "warning",
  message,
  advice
})

export const wrong = (check: Check["check"], subject: string, message: string, advice: string): Check => ({
  check,
  subject,
  status: "wrong",
  message,
  advice
})
