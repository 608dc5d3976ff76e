/** What a head of the network predicts: the clean image, the velocity, or the noise. */
export type Head = 'xStart' | 'v' | 'eps'

/** The heads in their fixed order: of output channels, of the columns of `perHead`, of names. Mirrors native/prediction/head.h. */
export const HEADS = ['xStart', 'v', 'eps'] as const satisfies readonly Head[]
