// SPDX-License-Identifier: Apache-2.0
// BNORM_TESTS_SANITIZED: 1 under a sanitizer that has memory or threads in hand, else 0.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BNORM_TESTS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BNORM_TESTS_SANITIZED 1
#endif
#endif
#if !defined(BNORM_TESTS_SANITIZED)
#define BNORM_TESTS_SANITIZED 0
#endif
