# bnorm_onednn: oneDNN as a peer, where it is found.
# Not by find_package: Debian's package file of oneDNN asks for OpenCL's development files, which a CPU peer needs not.
find_library(BNORM_ONEDNN_LIBRARY dnnl)
find_path(BNORM_ONEDNN_INCLUDE oneapi/dnnl/dnnl.hpp)
mark_as_advanced(BNORM_ONEDNN_LIBRARY BNORM_ONEDNN_INCLUDE)
if(BNORM_ONEDNN_LIBRARY AND BNORM_ONEDNN_INCLUDE AND NOT TARGET bnorm_onednn)
  add_library(bnorm_onednn INTERFACE)
  target_compile_features(bnorm_onednn INTERFACE cxx_std_20)
  target_include_directories(bnorm_onednn SYSTEM INTERFACE ${BNORM_ONEDNN_INCLUDE})
  target_link_libraries(bnorm_onednn INTERFACE ${BNORM_ONEDNN_LIBRARY})
endif()
