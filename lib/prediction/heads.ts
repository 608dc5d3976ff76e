/**
 * What a head of the network predicts: the clean image, the velocity, the noise, or the image of one timestep less noise
 * (guided-diffusion's PREVIOUS_X), which a network predicts alone.
 */
export type Head = 'xStart' | 'v' | 'eps' | 'xPrev'

/** The heads that a network may have beside one another, in their fixed order: of output channels, of the columns of `perHead`, of names. */
export const HEADS = ['xStart', 'v', 'eps'] as const satisfies readonly Head[]

/** Every head. Mirrors native/prediction/head.h. */
export const ALL_HEADS = [...HEADS, 'xPrev'] as const satisfies readonly Head[]
